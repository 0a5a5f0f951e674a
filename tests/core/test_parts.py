"""Directions drawn around known centres are divided as they were drawn, and their number is told."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from scuba_ray.core.parts import adjusted_rand, concentration, divide, stability


def drawn(parts: int, each: int, noise: float, dim: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre_kD = torch.randn(parts, dim, generator=generator)
    label_N = torch.arange(parts).repeat_interleave(each)
    return torch.nn.functional.normalize(
        torch.nn.functional.normalize(centre_kD, dim=1)[label_N] + noise * torch.randn(len(label_N), dim, generator=generator)
    ), label_N


def test_parts_are_found_again_the_largest_first() -> None:
    unit_ND, label_N = drawn(3, 30, noise=0.1)
    found_N, centre_kD = divide(unit_ND[:70], 3, seed=1)
    assert adjusted_rand(found_N, label_N[:70]) == 1.0
    assert torch.bincount(found_N).tolist() == [30, 30, 10]
    torch.testing.assert_close(torch.linalg.vector_norm(centre_kD, dim=1), torch.ones(3))
    torch.testing.assert_close(found_N, divide(unit_ND[:70], 3, seed=1)[0])


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_halves_agree_best_on_the_number_that_was_drawn(parts: int) -> None:
    unit_ND, _ = drawn(parts, 40, noise=0.12)
    found = {k: stability(unit_ND, k, seed=0) for k in range(2, 6)}
    assert max(found, key=lambda k: found[k]) == parts and found[parts] > 0.95, found


def test_halves_of_one_cloud_agree_on_nothing() -> None:
    unit_ND, _ = drawn(1, 120, noise=0.3)
    assert max(stability(unit_ND, k, seed=0) for k in (2, 3, 4)) < 0.3
    assert torch.isnan(torch.tensor(stability(unit_ND[:3], 2, seed=0))), "too few for two halves"


def test_the_index_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 5, 50):
        one_N, other_N = torch.randint(3, (2, size), generator=generator)
        assert adjusted_rand(one_N, other_N) == pytest.approx(adjusted_rand_score(one_N, other_N), abs=1e-12)


def test_rows_that_are_alike_and_too_few_rows() -> None:
    unit_ND = torch.nn.functional.normalize(torch.ones(4, 8), dim=1)
    label_N, centre_kD = divide(unit_ND, 2, seed=0)
    assert sorted(torch.bincount(label_N, minlength=2).tolist()) == [0, 4] and centre_kD.shape == (2, 8)
    with pytest.raises(ValueError, match="1 rows cannot be divided into 2 parts"):
        divide(unit_ND[:1], 2, seed=0)
    assert torch.isnan(torch.tensor(concentration(unit_ND)))


def test_a_narrower_cloud_has_a_larger_concentration() -> None:
    wide, narrow = (concentration(drawn(1, 500, noise)[0]) for noise in (0.3, 0.1))
    assert narrow > 2 * wide
    # a direction plus Gaussian noise of small deviation s is nearly von Mises and Fisher's with concentration 1 / s^2
    assert narrow == pytest.approx(1 / 0.1**2, rel=0.8)
