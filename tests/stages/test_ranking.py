"""Sentences ranked by the response that a voxel's weights predict to them."""

from __future__ import annotations

import numpy as np
import torch

from scuba_ray.stages.ranking import rank_by_drive
from tests.stages.pictured import DIM, WordBackbone, blend

SENTENCES = ["the dog.", "a dog and a car.", "a car.", "a dog."]


def test_largest_drive_first_and_equal_ones_by_alphabet() -> None:
    weight_ND = torch.tensor(np.array([2 * blend("dog"), 2 * blend("car"), 2 * blend("car")])).float()
    tower = WordBackbone()
    dog, car, none = rank_by_drive(tower, weight_ND, [SENTENCES, set(SENTENCES), []], "cpu")  # type: ignore[arg-type]
    assert [text for _, text in dog] == ["a dog.", "the dog.", "a dog and a car.", "a car."] and none == []
    assert [text for _, text in car][:2] == ["a car.", "a dog and a car."]
    for wanted, ranked in (("dog", dog), ("car", car)):
        for drive, text in ranked:
            assert abs(drive - 2 * float(blend(wanted) @ blend(text))) < 1e-5, "per unit of the sentence's embedding"
    assert sorted(tower.embedded) == sorted(SENTENCES), "each sentence is embedded once"


def test_nothing_to_rank() -> None:
    assert rank_by_drive(WordBackbone(), torch.empty(0, DIM), [], "cpu") == []  # type: ignore[arg-type]
