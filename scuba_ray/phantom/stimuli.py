"""Which drawings a subject's stimuli show: every concept in 4 to 8 % of them, and some pairs of concepts often together.

Drawn by plan, not by chance: a concept's number of scenes is fixed first, then concepts are dealt to the scenes' slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scuba_ray.phantom.concepts import Vocabulary
from scuba_ray.phantom.scenes import SLOTS, Drawings

PREVALENCE = (0.042, 0.062)
"""A concept's share of the stimuli is drawn between these. 33 of them leave about one slot in ten to drawings of no concept."""
TOGETHER = 0.65
"""Of the scenes of a pair's rarer concept, the share that shows the other one too; by chance it would be one in twenty."""
SHARES = (0.35, 0.40, 0.25)
"""Shares of scenes with one, two and three drawings, as in the bank and in training."""


def concept_of_drawings(drawings: Drawings, vocabulary: Vocabulary) -> torch.Tensor:
    """Index of each drawing's concept, (N,) int64, -1 for drawings of none."""
    index = {name: number for number, concept in enumerate(vocabulary.concepts) for name in concept.drawings}
    return torch.tensor([index.get(name, -1) for name in drawings.names])


def sample_stimuli(
    generator: torch.Generator,
    count: int,
    concept_N: torch.Tensor,
    concepts: int,
    pairs: Sequence[tuple[int, int]] = (),
) -> torch.Tensor:
    """Drawings of `count` scenes, (count, 3) int64, -1 in empty slots (last), each concept at most once in a scene.

    `pairs` are concepts that appear together in `TOGETHER` of the rarer one's scenes.
    """
    concept_BO, filled_BO = _deal_concepts(generator, count, concepts, pairs)
    drawing_BO = torch.full_like(concept_BO, -1)
    for concept in range(-1, concepts):
        own = (concept_N == concept).nonzero().squeeze(1)
        here = filled_BO & (concept_BO == concept)
        drawing_BO[here] = own[torch.randint(len(own), (int(here.sum()),), generator=generator)]
    _part_twins(drawing_BO, concept_BO, (concept_N == -1).nonzero().squeeze(1))
    # an order of its own for every scene: which of a pair comes first, lies where or covers the other is chance
    keys = torch.rand(drawing_BO.shape, generator=generator).masked_fill(~filled_BO, 2.0)
    return drawing_BO.gather(1, keys.argsort(dim=1))


def _deal_concepts(
    generator: torch.Generator, count: int, concepts: int, pairs: Sequence[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Concepts of the slots of `count` scenes, (count, 3), -1 for none, and which slots are filled at all."""
    low, high = PREVALENCE
    many_C = ((low + (high - low) * torch.rand(concepts, generator=generator)) * count).round().long()
    filled_BO = _filled(generator, count)
    concept_BO = torch.full((count, SLOTS), -1)
    free_BO = filled_BO.clone()
    left_C = many_C.clone()
    roomy = filled_BO[:, 1].nonzero().squeeze(1)
    roomy = roomy[torch.randperm(len(roomy), generator=generator)]
    for first, second in pairs:
        together = int(TOGETHER * min(many_C[first], many_C[second]))
        scenes, roomy = roomy[:together], roomy[together:]
        concept_BO[scenes, 0], concept_BO[scenes, 1] = first, second
        free_BO[scenes, :2] = False
        left_C[[first, second]] -= together
    rows, slots = free_BO.nonzero(as_tuple=True)
    dealt = torch.repeat_interleave(torch.arange(concepts), left_C)[: len(rows)]
    dealt = torch.cat([dealt, torch.full((len(rows) - len(dealt),), -1)])
    concept_BO[rows, slots] = dealt[torch.randperm(len(dealt), generator=generator)]
    while len(twice := _repeated(concept_BO, free_BO)):
        # deal again what came twice to a scene, together with as many other slots
        other = torch.randint(len(rows), (len(twice),), generator=generator)
        again = torch.unique(torch.cat([twice, rows[other] * SLOTS + slots[other]]))
        flat = concept_BO.view(-1)
        flat[again] = flat[again[torch.randperm(len(again), generator=generator)]]
    return concept_BO, filled_BO


def _filled(generator: torch.Generator, count: int) -> torch.Tensor:
    """Which slots are filled, (count, 3) bool: the shares of one, two and three drawings to the nearest scene."""
    bounds = [round(count * sum(SHARES[: index + 1])) for index in range(SLOTS)]
    many = torch.bucketize(torch.arange(count), torch.tensor(bounds), right=True) + 1
    return torch.arange(SLOTS) < many[torch.randperm(count, generator=generator)][:, None]


def _repeated(concept_BO: torch.Tensor, free_BO: torch.Tensor) -> torch.Tensor:
    """Flat places of dealt slots whose concept another slot of the scene has too."""
    same = (concept_BO[:, :, None] == concept_BO[:, None, :]) & (concept_BO >= 0)[:, :, None]
    same &= ~torch.eye(SLOTS, dtype=torch.bool)
    return (same.any(2) & free_BO).view(-1).nonzero().squeeze(1)


def _part_twins(drawing_BO: torch.Tensor, concept_BO: torch.Tensor, others: torch.Tensor) -> None:
    """Replace a drawing of no concept that comes twice in a scene by its neighbours in the list, in place."""
    place = {int(drawing): index for index, drawing in enumerate(others)}
    for row in ((concept_BO == -1) & (drawing_BO >= 0)).sum(1).gt(1).nonzero().squeeze(1).tolist():
        seen: set[int] = set()
        for slot in range(SLOTS):
            drawing = int(drawing_BO[row, slot])
            while drawing in seen:
                drawing = int(others[(place[drawing] + 1) % len(others)])
            if drawing >= 0:
                seen.add(drawing)
                drawing_BO[row, slot] = drawing
