"""Our batched, cached beams against the published loop: equal in float64, and in float32 wherever the margin allows."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from scuba_ray.core.beam import beam_search
from scuba_ray.core.decoding import Sentences
from scuba_ray.models.cached_gpt2 import CachedGPT2
from tests.parity.published_beam import Reference, generate2, generate_beam

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


def cut(beams: Sentences, voxel: int) -> list[list[int]]:
    pairs = zip(beams.token_VML[voxel], beams.length_VM[voxel], strict=True)
    return [tokens[: int(length)].tolist() for tokens, length in pairs]


def decode(
    gpt: GPT2LMHeadModel, prefix: torch.Tensor, batch: int, limit: int = LIMIT, beams: int = 5
) -> list[tuple[list[list[int]], list[float]]]:
    found = []
    model = CachedGPT2(gpt)
    for part in prefix.split(batch):
        beams_found = beam_search(model, part, stop=STOP, beams=beams, max_tokens=limit)
        found += [(cut(beams_found, voxel), beams_found.logprob_VM[voxel].tolist()) for voxel in range(len(part))]
    return found


def references(gpt: GPT2LMHeadModel, prefix: torch.Tensor, limit: int = LIMIT) -> list[Reference]:
    return [generate_beam(gpt, row[None], STOP, entry_length=limit) for row in prefix]


@pytest.fixture(scope="module", params=range(4))
def case64(request: pytest.FixtureRequest) -> tuple[GPT2LMHeadModel, torch.Tensor, list[Reference]]:
    gpt = small_gpt2(request.param, torch.float64)
    prefix = torch.randn(125, PREFIX, 16, dtype=torch.float64) * 3
    return gpt, prefix, references(gpt, prefix)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_float64_equals_the_published_loop_exactly(case64, batch: int) -> None:  # type: ignore[no-untyped-def]
    gpt, prefix, expected = case64
    for (tokens, logprobs), reference in zip(decode(gpt, prefix, batch), expected, strict=True):
        assert tokens == reference.tokens
        assert logprobs == pytest.approx(reference.logprobs, abs=1e-12)


def test_the_prefixes_exercise_the_rule(case64) -> None:  # type: ignore[no-untyped-def]
    _, _, expected = case64
    lengths = [len(tokens) for reference in expected for tokens in reference.tokens]
    assert len(set(lengths)) >= 5, "beams of many lengths"
    assert any(len({len(tokens) for tokens in reference.tokens}) > 1 for reference in expected), "frozen beside growing beams"
    assert len({tuple(reference.tokens[0]) for reference in expected}) > 15, "varied sentences"


def test_float32_equals_it_wherever_the_margin_allows() -> None:
    gpt = small_gpt2(11, torch.float32)
    prefix = torch.randn(500, PREFIX, 16) * 3
    expected = references(gpt, prefix)
    assert sum(reference.margin > MARGIN for reference in expected) > 450
    for batch in (1, 7, 64):
        found = zip(decode(gpt, prefix, batch), expected, strict=True)
        exceptions = [reference.margin for (tokens, _), reference in found if tokens != reference.tokens]
        print(f"batch {batch}: {len(exceptions)} of {len(prefix)} differ, by margin: {exceptions}")
        assert [margin for margin in exceptions if margin > MARGIN] == []


def test_the_limit_cuts_beams_that_never_stop() -> None:
    gpt = small_gpt2(2, torch.float64)
    prefix = torch.randn(40, PREFIX, 16, dtype=torch.float64)
    for limit in (1, 2, 5):
        for (tokens, _), reference in zip(decode(gpt, prefix, 16, limit), references(gpt, prefix, limit), strict=True):
            assert tokens == reference.tokens


def test_one_beam_is_what_the_published_nucleus_function_decodes() -> None:
    gpt = small_gpt2(3, torch.float64)
    prefix = torch.randn(60, PREFIX, 16, dtype=torch.float64) * 3
    greedy = [tokens[0] for tokens, _ in decode(gpt, prefix, 16, beams=1)]
    for top_p in (0.1, 0.8):
        assert [generate2(gpt, row[None], STOP, LIMIT, top_p) for row in prefix] == greedy
    assert len({tuple(tokens) for tokens in greedy}) > 15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_mostly_says_the_same(dtype: torch.dtype) -> None:
    agreement(small_gpt2(11, torch.float32), dtype, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_mostly_says_the_same_on_a_gpu(dtype: torch.dtype) -> None:
    agreement(small_gpt2(11, torch.float32).cuda(), dtype, "cuda")


def agreement(gpt: GPT2LMHeadModel, dtype: torch.dtype, device: str) -> None:
    """How many best beams half precision shares with float32 is printed; that their scores are close is asserted."""
    prefix = torch.randn(200, PREFIX, 16, device=device) * 3
    full = beam_search(CachedGPT2(gpt), prefix, stop=STOP, max_tokens=LIMIT)
    half = beam_search(CachedGPT2(gpt, dtype), prefix, stop=STOP, max_tokens=LIMIT)
    same = (full.token_VML[:, 0] == half.token_VML[:, 0]).all(dim=1)
    print(f"{dtype} on {device}: {int(same.sum())} of 200 best beams as in float32")
    assert half.logprob_VM.dtype == torch.float32
    assert same.float().mean() > 0.5
    assert (full.logprob_VM[:, 0] - half.logprob_VM[:, 0]).abs().median() < 0.02
