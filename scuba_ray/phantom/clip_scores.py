"""How well a phantom backbone reads held-out scenes: the right name, the right pair, the right kind, the right concept.

All scenes come from the seeds `HELD_OUT`, which no training saw. Ties count against the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from scuba_ray.phantom.concepts import load_vocabulary
from scuba_ray.phantom.scenes import Drawings, kinds_of, name_captions, render, sample_drawings, sample_scenes
from scuba_ray.phantom.seeds import HELD_OUT

MEAN, STD = 0.5, 0.25
"""Pixels are standardised with one mean and one standard deviation for all channels."""
CONTEXT = 24
PAIRS = 500


@dataclass(frozen=True)
class _Reader:
    """An open_clip model with its tokenizer, and pictures and texts as unit vectors."""

    model: Any
    tokenizer: Any
    drawings: Drawings
    generator: torch.Generator
    device: str

    def texts(self, captions: Sequence[str]) -> torch.Tensor:
        ids = torch.zeros(len(captions), CONTEXT, dtype=torch.long)
        for row, encoding in enumerate(self.tokenizer.encode_batch(list(captions))):
            kept = [*encoding.ids[: CONTEXT - 1], encoding.ids[-1]] if len(encoding.ids) > CONTEXT else encoding.ids
            ids[row, : len(kept)] = torch.tensor(kept)
        return F.normalize(self.model.encode_text(ids.to(self.device)).float(), dim=-1)

    def pictures(self, which_BO: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
        scenes = sample_scenes(self.generator, which_BO)
        pixels = render(scenes, self.drawings, self.device)
        parts = [self.model.encode_image((part.float() / 255 - MEAN) / STD).float() for part in torch.split(pixels, 512)]
        return F.normalize(torch.cat(parts), dim=-1), name_captions(scenes, self.drawings)


@torch.inference_mode()
def score_clip(
    model: Any, drawings: Drawings, tokenizer: Any, device: str, *, singles: int = 3288, seed: int = 0
) -> dict[str, float]:
    """Retrieval scores of an open_clip model.

    Parameters
    ----------
    model, tokenizer
        An open_clip network and its `tokenizers.Tokenizer`.
    singles : int
        Scenes of one drawing; all drawings in turn, in random order.
    seed : int
        Place in the range of held-out seeds.

    Returns
    -------
    scores : dict
        `single R@1`, `single R@5`: a single drawing against the names of all drawings. `pair R@1`: scenes of two drawings against
        500 captions. `kind`: a single drawing against its narrow kind among all narrow kinds. `concept`: a single drawing of a
        planted concept against the concepts' prompts (mean of the kinds a concept is made of).
    """
    reader = _Reader(model, tokenizer, drawings, torch.Generator(device).manual_seed(HELD_OUT[seed]), device)
    order = torch.randperm(len(drawings), generator=reader.generator, device=device)
    shown = order.repeat(-(-singles // len(order)))[:singles]
    nothing = -torch.ones_like(shown)
    single_BD, _ = reader.pictures(torch.stack([shown, nothing, nothing], dim=1))
    rank = _rank(single_BD @ reader.texts(drawings.names).T, shown)
    narrow = [kinds[0] for kinds in drawings.kinds]
    labels = sorted(set(narrow))
    kind = torch.tensor([labels.index(kind) for kind in narrow], device=device)[shown]
    pair_BD, captions = reader.pictures(sample_drawings(reader.generator, PAIRS, drawings, share_of_counts=(0.0, 1.0, 0.0)))
    concept_CD, concept_N = _concepts(reader)
    concept_B = concept_N[shown]
    planted = concept_B >= 0
    return {
        "single R@1": _share(rank < 1),
        "single R@5": _share(rank < 5),
        "pair R@1": _share(_rank(pair_BD @ reader.texts(captions).T, torch.arange(PAIRS, device=device)) < 1),
        "kind": _share(_rank(single_BD @ reader.texts(labels).T, kind) < 1),
        "concept": _share(_rank(single_BD[planted] @ concept_CD.T, concept_B[planted]) < 1),
    }


def _concepts(reader: _Reader) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt embedding per concept, and the concept of each drawing (-1 none)."""
    concepts = load_vocabulary().concepts
    prompts = [F.normalize(reader.texts([kinds_of(sub)[0] for sub in one.subcategories]).mean(0), dim=0) for one in concepts]
    of = {sub: index for index, one in enumerate(concepts) for sub in one.subcategories}
    belongs = torch.tensor([of.get(sub, -1) for sub in reader.drawings.subcategory], device=reader.device)
    return torch.stack(prompts), belongs


def _share(hits: torch.Tensor) -> float:
    return float(hits.double().mean())


def _rank(similarity: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How many other columns score at least as high as the target, per row."""
    own = similarity.gather(1, target[:, None])
    return (similarity >= own).sum(1) - 1
