from __future__ import annotations

import itertools

import pytest
import torch

from scuba_ray.phantom import seeds
from scuba_ray.phantom.concepts import load_vocabulary
from scuba_ray.phantom.scenes import load_drawings
from scuba_ray.phantom.stimuli import TOGETHER, concept_of_drawings, sample_stimuli

CONCEPTS = len(load_vocabulary().concepts)
CONCEPT_N = concept_of_drawings(load_drawings(), load_vocabulary())
PAIRS = ((0, 22), (5, 23), (10, 24))


def present(drawing_BO: torch.Tensor) -> torch.Tensor:
    """Which concepts a scene shows, (B, C) bool."""
    here = drawing_BO >= 0
    concept_BO = torch.where(here, CONCEPT_N[drawing_BO.clamp(min=0)], -1)
    return torch.stack([(concept_BO == concept).any(1) for concept in range(CONCEPTS)], dim=1)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_prevalence_pairs_and_slots(seed: int) -> None:
    drawing_BO = sample_stimuli(seeds.generator(seeds.STIMULI, seed), 3000, CONCEPT_N, CONCEPTS, PAIRS)
    shown = present(drawing_BO)
    prevalence = shown.float().mean(0)
    assert prevalence.min() >= 0.04 and prevalence.max() <= 0.08
    for first, second in PAIRS:
        together = (shown[:, first] & shown[:, second]).sum()
        assert together / min(shown[:, first].sum(), shown[:, second].sum()) == pytest.approx(TOGETHER, abs=0.06)
    apart = (shown[:, 1] & shown[:, 25]).sum() / shown[:, 1].sum()
    assert apart < 0.2
    many = (drawing_BO >= 0).sum(1)
    assert [float((many == count).float().mean()) for count in (1, 2, 3)] == pytest.approx([0.35, 0.40, 0.25], abs=1e-3)


@pytest.mark.parametrize("count", [40, 300, 3000])
def test_filled_slots_come_first_and_nothing_comes_twice(count: int) -> None:
    drawing_BO = sample_stimuli(seeds.generator(seeds.STIMULI, 5), count, CONCEPT_N, CONCEPTS, PAIRS)
    filled = drawing_BO >= 0
    assert (filled[:, :-1] >= filled[:, 1:]).all() and filled[:, 0].all()
    ordered = drawing_BO.sort(dim=1).values
    assert not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()
    concept_BO = torch.where(filled, CONCEPT_N[drawing_BO.clamp(min=0)], -1).sort(dim=1).values
    assert not ((concept_BO[:, 1:] == concept_BO[:, :-1]) & (concept_BO[:, 1:] >= 0)).any()


def test_all_drawings_of_a_concept_take_part() -> None:
    drawing_BO = sample_stimuli(seeds.generator(seeds.STIMULI, 6), 20_000, CONCEPT_N, CONCEPTS)
    seen = set(drawing_BO.unique().tolist())
    assert {index for index, concept in enumerate(CONCEPT_N.tolist()) if concept >= 0} <= seen


def test_the_same_seed_gives_the_same_scenes() -> None:
    def draw(seed: int) -> torch.Tensor:
        return sample_stimuli(seeds.generator(seeds.STIMULI, seed), 500, CONCEPT_N, CONCEPTS, PAIRS)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_ranges_of_seeds_are_apart_and_fit_the_generator() -> None:
    ranges = [seeds.TRAINING, seeds.HELD_OUT, seeds.STIMULI, seeds.SHARED, seeds.BANK, seeds.SUBJECT, seeds.RESPONSES]
    for one, other in itertools.pairwise(ranges):
        assert one.stop <= other.start
    assert ranges[-1].stop <= 2**32
    # why that matters: torch's generator looks no further
    low, high = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5 + 2**32)
    assert torch.equal(torch.rand(3, generator=low), torch.rand(3, generator=high))
