"""Captions per second against CLIPCap's published loop (one voxel a call, no cache), with the same number of forced tokens.

Two captioners: the one that ships with scuba_ray, and a random one of the published size (GPT-2 small, 10 prefix vectors). The
published loop decodes fewer voxels a round; rates, not times, are compared.
"""

from __future__ import annotations

from copy import deepcopy

import _report

settings = _report.arguments(__doc__, batch=64, tokens=12, beams=5, published_small=8, published_large=2, rounds=3)

import torch  # noqa: E402  (after the thread count is set)
from transformers import GPT2Config  # noqa: E402

from scuba_ray.core.beam import beam_search  # noqa: E402
from scuba_ray.models.captioner_directory import read_captioner  # noqa: E402
from scuba_ray.models.files import packaged  # noqa: E402
from scuba_ray.models.prefix_model import CachedGPT2, PrefixModel, fuse_gelu  # noqa: E402
from tests.parity.published_beam import generate_beam  # noqa: E402

NEVER = -1
"""A stop token that no beam meets: every sentence has the full number of tokens."""


def compare(model: PrefixModel, published_voxels: int) -> dict[str, object]:
    """Rates of both loops on the same prefixes, and how many sentences agree."""
    model = model.eval().requires_grad_(False)
    fused = deepcopy(model.gpt)
    fuse_gelu(fused)
    prefix_VPE = model.prefix(torch.randn(settings.batch, model.dim, generator=torch.Generator().manual_seed(0)) * 3)

    def ours() -> list[list[int]]:
        with torch.inference_mode():
            found = beam_search(CachedGPT2(fused), prefix_VPE, stop=NEVER, beams=settings.beams, max_tokens=settings.tokens)
        return [row.tolist() for row in found.token_VML[:, 0]]

    def published() -> list[list[int]]:
        return [
            generate_beam(model.gpt, row[None], NEVER, settings.beams, settings.tokens, margins=False).tokens[0]
            for row in prefix_VPE[:published_voxels]
        ]

    seconds = _report.side_by_side({"ours": ours, "published": published}, settings.rounds)
    each = {"ours": settings.batch, "published": published_voxels}
    rates = {name: [each[name] / second for second in seconds[name]] for name in seconds}
    agree = sum(a == b for a, b in zip(ours(), published(), strict=False))
    return {
        "captions_per_second": {name: sorted(values)[len(values) // 2] for name, values in rates.items()},
        "times_faster": _report.ratio(rates, "ours", "published"),
        "same_sentence": f"{agree} of {published_voxels}",
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
