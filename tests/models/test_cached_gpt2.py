"""The cache that never moves, against transformers running every sentence from its beginning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from scuba_ray.models.cached_gpt2 import ROOM, CachedGPT2, decoding_bytes

SIZES = {"vocab_size": 40, "n_positions": 80, "n_embd": 24, "n_layer": 3, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
PREFIX = 4


def small(**settings: Any) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    gpt = GPT2LMHeadModel(GPT2Config(**(SIZES | settings)))
    for weight in gpt.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return gpt.double().eval().requires_grad_(False)


def whole(gpt: GPT2LMHeadModel, prefix_PE: Tensor, tokens: list[int]) -> Tensor:
    known = gpt.transformer.wte(torch.tensor(tokens, dtype=torch.int64))
    logits: Tensor = gpt(inputs_embeds=torch.cat([prefix_PE, known])[None]).logits[0, -1]
    return logits


def follow(gpt: GPT2LMHeadModel, model: CachedGPT2, voxels: int, sentences: int, *, steps: int, seed: int) -> None:
    """Branch, stop and leave at random; every row's logits must be those of its sentence read from the beginning."""
    draw = torch.Generator().manual_seed(seed)
    prefix_VPE = torch.randn(voxels, PREFIX, gpt.config.n_embd, dtype=torch.float64, generator=draw)
    first = model.prefill(prefix_VPE)
    assert torch.allclose(first, torch.stack([whole(gpt, prefix, []) for prefix in prefix_VPE]))
    texts: list[list[list[int]]] = [[[] for _ in range(sentences)] for _ in range(voxels)]
    alive_VM = torch.ones(voxels, sentences, dtype=torch.bool)
    for step in range(steps):
        if step % 4 == 3 and len(texts) > 1:
            chosen_V = torch.rand(len(texts), generator=draw) < 0.7
            chosen_V[0] = True
            model.keep(chosen_V)
            prefix_VPE, alive_VM = prefix_VPE[chosen_V], alive_VM[chosen_V]
            texts = [text for text, chosen in zip(texts, chosen_V.tolist(), strict=True) if chosen]
        # a sentence goes on from a living one; those that stopped stay stopped
        source_VM = torch.stack([alive.float().multinomial(sentences, True, generator=draw) for alive in alive_VM])
        if step == 0:
            source_VM = torch.zeros_like(source_VM)
        token_VM = torch.randint(SIZES["vocab_size"], source_VM.shape, generator=draw)
        stops_VM = torch.rand(source_VM.shape, generator=draw) < 0.15
        stops_VM[:, 0] = False
        alive_VM = ~stops_VM
        logits_RN = model.advance(source_VM, token_VM, alive_VM).clone()
        texts = [
            [[*texts[v][source], token] for source, token in zip(source_VM[v].tolist(), token_VM[v].tolist(), strict=True)]
            for v in range(len(texts))
        ]
        expected = [whole(gpt, prefix_VPE[v], texts[v][m]) for v, m in alive_VM.nonzero().tolist()]
        assert torch.allclose(logits_RN, torch.stack(expected), atol=1e-9)


@pytest.mark.parametrize(
    "settings", [{}, {"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}, {"activation_function": "relu"}]
)
def test_every_row_continues_its_own_sentence(settings: dict[str, Any]) -> None:
    gpt = small(**settings)
    model = CachedGPT2(gpt)
    for seed, (voxels, sentences) in enumerate([(5, 3), (2, 6), (6, 1)]):  # one after another in the same memory
        follow(gpt, model, voxels, sentences, steps=7, seed=seed)


def test_sentences_longer_than_the_first_room() -> None:
    gpt = small()
    follow(gpt, CachedGPT2(gpt), 3, 2, steps=2 * ROOM + 3, seed=9)


def test_what_was_in_the_memory_before_is_never_seen() -> None:
    gpt = small()
    model = CachedGPT2(gpt)
    model.prefill(torch.full((4, PREFIX, 24), torch.nan, dtype=torch.float64))
    every = torch.zeros(4, 3, dtype=torch.int64)
    model.advance(every, every, torch.ones(4, 3, dtype=torch.bool))
    follow(gpt, model, 4, 3, steps=6, seed=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_and_gives_float32(dtype: torch.dtype) -> None:
    gpt = small().float()
    prefix_VPE = torch.randn(6, PREFIX, 24)
    token_VM, alive_VM = torch.randint(40, (6, 2)), torch.ones(6, 2, dtype=torch.bool)
    made = []
    for model in (CachedGPT2(gpt), CachedGPT2(gpt, dtype)):
        first = model.prefill(prefix_VPE).clone()
        made.append((first, model.advance(torch.zeros_like(token_VM), token_VM, alive_VM)))
    for full, half in zip(*made, strict=True):
        assert half.dtype == torch.float32
        assert 0 < (full - half).abs().max() < 0.05 * full.abs().max()


def test_the_stated_memory_holds_the_cache() -> None:
    gpt = small().float()
    voxels, sentences, max_tokens = 4, 3, 35
    model = CachedGPT2(gpt)
    model.prefill(torch.randn(voxels, PREFIX, 24))
    token_VM, alive_VM = torch.zeros(voxels, sentences, dtype=torch.int64), torch.ones(voxels, sentences, dtype=torch.bool)
    for _ in range(max_tokens - 1):
        model.advance(token_VM, token_VM, alive_VM)
    held = sum(store.numel() * store.element_size() for store in model._store_2VHSd)
    sizes = {"layers": 3, "width": 24, "vocabulary": 40, "prefix_length": PREFIX, "element": 4}
    stated = voxels * decoding_bytes(sentences=sentences, max_tokens=max_tokens, **sizes)
    assert held < stated < 3 * held
