"""How well a phantom backbone reads held-out scenes: the right name, the right pair, the right kind.

All scenes come from `HELD_OUT_SEED`, which no training saw. Ties count against the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from scuba_ray.phantom.scenes import Drawings, name_captions, render, sample_drawings, sample_scenes
from scuba_ray.phantom.seeds import HELD_OUT_SEED

_MEAN, _STD = 0.5, 0.25
CONTEXT = 24


@torch.inference_mode()
def score_clip(model: Any, drawings: Drawings, tokenizer: Any, device: str, renderings: int = 2) -> dict[str, float]:
    """Retrieval scores of an open_clip model.

    Returns
    -------
    scores : dict
        `single R@1`, `single R@5`: a single drawing against the names of all drawings. `pair R@1`: scenes of two drawings against
        500 captions. `kind`: a single drawing against its narrow kind among all narrow kinds.
    """
    generator = torch.Generator(device).manual_seed(HELD_OUT_SEED)

    def texts(captions: Sequence[str]) -> torch.Tensor:
        encoded = tokenizer.encode_batch(list(captions))
        ids = torch.zeros(len(captions), CONTEXT, dtype=torch.long)
        for row, encoding in enumerate(encoded):
            kept = [*encoding.ids[: CONTEXT - 1], encoding.ids[-1]] if len(encoding.ids) > CONTEXT else encoding.ids
            ids[row, : len(kept)] = torch.tensor(kept)
        return F.normalize(model.encode_text(ids.to(device)).float(), dim=-1)

    def pictures(which_BO: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
        scenes = sample_scenes(generator, which_BO)
        pixels = render(scenes, drawings, device)
        parts = [model.encode_image((part.float() / 255 - _MEAN) / _STD).float() for part in pixels.split(512)]
        return F.normalize(torch.cat(parts), dim=-1), name_captions(scenes, drawings)

    everything = torch.arange(len(drawings), device=generator.device).repeat(renderings)
    single = torch.stack([everything, -torch.ones_like(everything), -torch.ones_like(everything)], dim=1)
    image_BD, _ = pictures(single)
    rank = _rank(image_BD @ texts(drawings.names).T, everything)
    narrow = [kinds[0] for kinds in drawings.kinds]
    labels = sorted(set(narrow))
    target = torch.tensor([labels.index(kind) for kind in narrow], device=image_BD.device).repeat(renderings)
    kind_rank = _rank(image_BD @ texts(labels).T, target)
    which = sample_drawings(generator, 500, drawings, share_of_counts=(0.0, 1.0, 0.0))
    pair_BD, captions = pictures(which)
    pair_rank = _rank(pair_BD @ texts(captions).T, torch.arange(500, device=pair_BD.device))
    return {
        "single R@1": _share(rank < 1),
        "single R@5": _share(rank < 5),
        "pair R@1": _share(pair_rank < 1),
        "kind": _share(kind_rank < 1),
    }


def _share(hits: torch.Tensor) -> float:
    return float(hits.double().mean())


def _rank(similarity: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How many other columns score at least as high as the target, per row."""
    own = similarity.gather(1, target[:, None])
    return (similarity >= own).sum(1) - 1
