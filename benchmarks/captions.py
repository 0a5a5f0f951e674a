"""Captions per second against CLIPCap's published loop (one voxel a call, no cache), with the same number of forced tokens.

Two captioners: the one that ships with scuba_ray, and a random one of the published size (GPT-2 small, 10 prefix vectors). The
published loop decodes fewer voxels a round; rates, not times, are compared. Beside ours stand bfloat16, and the matrix products
of layers and head alone, of the same shapes (without attention, norms, choosing tokens and everything else).
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import _report

settings = _report.arguments(__doc__, batch=64, tokens=12, beams=5, published_small=8, published_large=2, rounds=3)

import torch  # noqa: E402  (after the thread count is set)
from torch import Tensor  # noqa: E402
from transformers import GPT2Config  # noqa: E402

from scuba_ray.core.beam import beam_search  # noqa: E402
from scuba_ray.models.cached_gpt2 import CachedGPT2, decoding_bytes  # noqa: E402
from scuba_ray.models.captioner_directory import read_captioner  # noqa: E402
from scuba_ray.models.files import packaged  # noqa: E402
from scuba_ray.models.prefix_model import PrefixModel  # noqa: E402
from tests.parity.published_beam import generate_beam  # noqa: E402

NEVER = -1
"""A stop token that no beam meets: every sentence has the full number of tokens."""


def products_of(model: PrefixModel) -> Callable[[], None]:
    """The products of one search: the prefixes of a batch, then one token of every beam at a time."""
    gpt, width = model.gpt, model.gpt.config.n_embd
    inputs = {size: torch.randn(settings.batch * max(model.prefix_length, settings.beams), size) for size in (width, 4 * width)}
    weights: list[Tensor] = [
        layer.weight
        for block in gpt.transformer.h
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
    ]
    rows = settings.batch * settings.beams
    results = {size: torch.empty(len(inputs[width]), size) for size in {weight.shape[1] for weight in weights}}
    logits = torch.empty(rows, len(gpt.lm_head.weight))

    def one(through: int, out: int) -> None:
        for weight in weights:
            torch.mm(inputs[weight.shape[0]][:through], weight, out=results[weight.shape[1]][:through])
        torch.mm(inputs[width][:out], gpt.lm_head.weight.T, out=logits[:out])

    def run() -> None:
        one(settings.batch * model.prefix_length, settings.batch)
        for _ in range(settings.tokens - 1):
            one(rows, rows)

    return run


def compare(model: PrefixModel, published_voxels: int) -> dict[str, Any]:
    """Rates of all loops on the same prefixes, how many sentences agree, and memory."""
    model = model.eval().requires_grad_(False)
    prefix_VPE = model.prefix(torch.randn(settings.batch, model.dim, generator=torch.Generator().manual_seed(0)) * 3)
    cached, half = CachedGPT2(model.gpt), CachedGPT2(model.gpt, torch.bfloat16)

    def ours(language: CachedGPT2 = cached) -> list[list[int]]:
        with torch.inference_mode():
            found = beam_search(language, prefix_VPE, stop=NEVER, beams=settings.beams, max_tokens=settings.tokens)
        return [row.tolist() for row in found.token_VML[:, 0]]

    def published() -> list[list[int]]:
        return [
            generate_beam(model.gpt, row[None], NEVER, settings.beams, settings.tokens, margins=False).tokens[0]
            for row in prefix_VPE[:published_voxels]
        ]

    def prefill() -> None:
        with torch.inference_mode():
            cached.prefill(prefix_VPE)

    with _report.peak_memory() as peak:
        said = ours()
    loops = {"ours": ours, "published": published, "products": products_of(model), "bfloat16": lambda: ours(half)}
    seconds = _report.side_by_side(loops | {"prefill": prefill}, settings.rounds)
    each = {"ours": settings.batch, "published": published_voxels, "bfloat16": settings.batch}
    rates = {name: [voxels / second for second in seconds[name]] for name, voxels in each.items()}
    agree = sum(a == b for a, b in zip(said, published(), strict=False))
    steps = zip(seconds["ours"], seconds["prefill"], strict=True)
    config = model.gpt.config
    stated = settings.batch * decoding_bytes(
        layers=config.n_layer, width=config.n_embd, vocabulary=config.vocab_size, prefix_length=model.prefix_length,
        sentences=settings.beams, max_tokens=settings.tokens, element=4,
    )  # fmt: skip
    return {
        "captions_per_second": {name: median(values) for name, values in rates.items()},
        "times_faster": _report.ratio(rates, "ours", "published"),
        "over_products": _report.ratio(seconds, "ours", "products"),
        "bfloat16_over_float32": _report.ratio(rates, "bfloat16", "ours"),
        "ms_per_token_step": median((whole - first) / (settings.tokens - 1) * 1e3 for whole, first in steps),
        "same_sentence_as_published": f"{agree} of {published_voxels}",
        "same_sentence_in_bfloat16": f"{sum(a == b for a, b in zip(said, ours(half), strict=True))} of {settings.batch}",
        "peak_mib": {"ours": peak["mib"], "stated": stated / 2**20},
        "seconds": seconds,
    }


def main() -> None:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    phantom = compare(read_captioner(packaged("captioner")), settings.published_small)
    large = compare(PrefixModel(512, 10, GPT2Config()), settings.published_large)
    _report.report(settings, {}, phantom_captioner=phantom, gpt2_small=large)


if __name__ == "__main__":
    main()
