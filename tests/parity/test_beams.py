"""Our batched, cached beams against the published loop: equal in float64, and in float32 wherever the margin allows."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from scuba_ray.core.beam import Beams, beam_search
from scuba_ray.models.prefix_model import CachedGPT2, fuse_gelu
from tests.parity.published_beam import Reference, generate_beam

VOCABULARY, STOP, LIMIT, PREFIX = 60, 13, 20, 3
MARGIN = 1e-5
Decoded = tuple[list[list[int]], list[float]]


def small_gpt2(seed: int, dtype: torch.dtype) -> GPT2LMHeadModel:
    """A random GPT-2 with peaked, varied predictions in which the stop token is likely."""
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=40, n_embd=16, n_layer=2, n_head=2, tie_word_embeddings=False)
    gpt = GPT2LMHeadModel(config)
    for weight in gpt.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    gpt.transformer.wte.weight.data *= 3
    gpt.lm_head.weight.data[STOP] += 0.4 * torch.randn(16).sign() * seed % 3
    return gpt.to(dtype).eval().requires_grad_(False)


def cut(beams: Beams, voxel: int) -> list[list[int]]:
    pairs = zip(beams.token_VML[voxel], beams.length_VM[voxel], strict=True)
    return [tokens[: int(length)].tolist() for tokens, length in pairs]


def decode(
    gpt: GPT2LMHeadModel, prefix: torch.Tensor, batch: int, limit: int = LIMIT
) -> list[tuple[list[list[int]], list[float]]]:
    found = []
    for part in prefix.split(batch):
        beams = beam_search(CachedGPT2(gpt), part, stop=STOP, max_tokens=limit)
        found += [(cut(beams, voxel), beams.logprob_VM[voxel].tolist()) for voxel in range(len(part))]
    return found


def references(gpt: GPT2LMHeadModel, prefix: torch.Tensor, limit: int = LIMIT) -> list[Reference]:
    return [generate_beam(gpt, row[None], STOP, entry_length=limit) for row in prefix]


@pytest.fixture(scope="module", params=range(4))
def case64(request: pytest.FixtureRequest) -> tuple[GPT2LMHeadModel, torch.Tensor, list[Reference]]:
    gpt = small_gpt2(request.param, torch.float64)
    prefix = torch.randn(128, PREFIX, 16, dtype=torch.float64) * 3
    return gpt, prefix, references(gpt, prefix)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_float64_equals_the_published_loop_exactly(case64, batch: int) -> None:  # type: ignore[no-untyped-def]
    gpt, prefix, expected = case64
    some = 40 if batch == 1 else len(prefix)  # one at a time is what costs
    for (tokens, logprobs), reference in zip(decode(gpt, prefix[:some], batch), expected[:some], strict=True):
        assert tokens == reference.tokens
        assert logprobs == pytest.approx(reference.logprobs, abs=1e-12)


def test_the_prefixes_exercise_the_rule(case64) -> None:  # type: ignore[no-untyped-def]
    _, _, expected = case64
    lengths = [len(tokens) for reference in expected for tokens in reference.tokens]
    assert len(set(lengths)) >= 5, "beams of many lengths"
    assert any(len({len(tokens) for tokens in reference.tokens}) > 1 for reference in expected), "frozen beside growing beams"
    assert len({tuple(reference.tokens[0]) for reference in expected}) > 15, "varied sentences"


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_float32_equals_it_wherever_the_margin_allows(batch: int) -> None:
    gpt = small_gpt2(11, torch.float32)
    prefix = torch.randn(200, PREFIX, 16) * 3
    expected = references(gpt, prefix)
    wide = [reference.margin > MARGIN for reference in expected]
    assert sum(wide) > 150
    exceptions = []
    for voxel, ((tokens, _), reference) in enumerate(zip(decode(gpt, prefix, batch), expected, strict=True)):
        if tokens != reference.tokens:
            exceptions.append((voxel, reference.margin))
    print(f"batch {batch}: {len(exceptions)} of {len(prefix)} differ, by margin: {exceptions}")
    assert [pair for pair in exceptions if pair[1] > MARGIN] == []


def test_the_limit_cuts_beams_that_never_stop() -> None:
    gpt = small_gpt2(2, torch.float64)
    prefix = torch.randn(40, PREFIX, 16, dtype=torch.float64)
    for limit in (1, 2, 5):
        for (tokens, _), reference in zip(decode(gpt, prefix, 16, limit), references(gpt, prefix, limit), strict=True):
            assert tokens == reference.tokens


def test_the_fused_activation_is_the_same_function() -> None:
    gpt = small_gpt2(5, torch.float64)
    prefix = torch.randn(60, PREFIX, 16, dtype=torch.float64) * 3
    before = decode(gpt, prefix, 30)
    fuse_gelu(gpt)
    for (tokens, logprobs), (expected, their_logprobs) in zip(decode(gpt, prefix, 30), before, strict=True):
        assert tokens == expected
        assert logprobs == pytest.approx(their_logprobs, abs=1e-12)
