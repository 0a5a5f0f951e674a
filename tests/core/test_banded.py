"""Banded ridge against himalaya's, and variance partitioning on constructed cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from himalaya.ridge import GroupRidgeCV
from sklearn.model_selection import PredefinedSplit

from scuba_ray.core.banded import BAND_WEIGHTS, BandedFit, Partition, banded_ridge, partition_variance, prepare_bands
from scuba_ray.core.ridge import fold_of_images
from scuba_ray.core.statistics import r2

S, D1, D2, V = 120, 12, 5, 7
ALPHAS = torch.logspace(-2, 4, 7, dtype=torch.float64)


def problem(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(S, D1, generator=generator) + 0.3, 4 * torch.randn(S, D2, generator=generator)
    W1, W2 = torch.randn(D1, V, generator=generator), torch.randn(D2, V, generator=generator)
    W1[:, 0], W2[:, 1] = 0, 0
    return first, second, first @ W1 + 0.5 * second @ W2 + 4 * torch.randn(S, V, generator=generator) + 2


@pytest.mark.parametrize("weights", [BAND_WEIGHTS, (0.0, 0.3, 1.0)])
def test_it_equals_himalaya_at_the_same_band_weights(weights: tuple[float, ...]) -> None:
    first, second, Y = problem()
    folds = fold_of_images(S, 4, 0)
    bands = prepare_bands(first, second, folds, weights)
    fit = banded_ridge(bands, D1, Y, ALPHAS)
    sets = [first.double().numpy() * bands.scale[0], second.double().numpy() * bands.scale[1]]
    # a band weight of exactly 0 has no logarithm; himalaya keeps log weights
    gammas = np.clip(np.array([[g, 1 - g] for g in weights]), 1e-12, None)
    how = {"n_iter": gammas, "alphas": ALPHAS.numpy(), "progress_bar": False, "warn": False}
    theirs = GroupRidgeCV(groups="input", cv=PredefinedSplit(folds.numpy()), fit_intercept=True, solver_params=how)
    theirs.fit(sets, Y.double().numpy())
    mine = np.concatenate([fit.first_DV.numpy() / bands.scale[0], fit.second_DV.numpy() / bands.scale[1]])
    np.testing.assert_allclose(mine, theirs.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fit.bias_V.numpy(), theirs.intercept_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fit.alpha_V.numpy(), theirs.best_alphas_, rtol=1e-5)
    assert len(set(fit.weight_V.tolist())) > 1, "voxels differ in the weight they choose"


def partition(first: torch.Tensor, second: torch.Tensor, Y: torch.Tensor, alphas: torch.Tensor) -> tuple[BandedFit, Partition]:
    """The first half of the images trains, the second half tests."""
    half = len(Y) // 2
    bands = prepare_bands(first[:half], second[:half], fold_of_images(half, 4, 0))
    fit = banded_ridge(bands, first.shape[1], Y[:half], alphas)
    return fit, partition_variance(fit, first[half:], second[half:], Y[half:], permutations=99, seed=0)


def orthogonal(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Columns of mean zero and unit variance, each orthogonal to all others."""
    X = torch.randn(rows, columns + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    X[:, 0] = 1
    return (torch.linalg.qr(X).Q[:, 1:] * rows**0.5).float()


def test_orthogonal_sets_explain_the_sum_and_share_nothing() -> None:
    halves = [orthogonal(200, D1 + D2 + V, seed) for seed in (1, 2)]
    X = torch.cat(halves)
    first, second, noise = X[:, :D1], X[:, D1 : D1 + D2], X[:, D1 + D2 :]
    generator = torch.Generator().manual_seed(3)
    Y = first @ torch.randn(D1, V, generator=generator) + second @ torch.randn(D2, V, generator=generator) + noise
    _, found = partition(first, second, Y, torch.tensor([1e-6]))
    torch.testing.assert_close(found.r2_joint, found.r2_first + found.r2_second, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.shared, torch.zeros(V), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.unique_first, found.r2_first, atol=1e-4, rtol=0)
    assert bool((found.r2_first > 0.1).all() and (found.p_unique_first == 0.01).all() and (found.p_unique_second == 0.01).all())


def test_identical_sets_have_nothing_of_their_own() -> None:
    first, _, Y = problem(1)
    _, found = partition(first, first.clone(), Y, ALPHAS)
    for unique in (found.unique_first, found.unique_second):
        torch.testing.assert_close(unique, torch.zeros(V), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.shared, found.r2_joint, atol=1e-5, rtol=0)


def test_the_parts_sum_to_the_joint_and_r2_is_that_of_the_predictions() -> None:
    first, second, Y = problem(2)
    fit, found = partition(first, second, Y, ALPHAS)
    torch.testing.assert_close(found.unique_first + found.unique_second + found.shared, found.r2_joint)
    P = first[S // 2 :] @ fit.first_DV + second[S // 2 :] @ fit.second_DV + fit.bias_V
    torch.testing.assert_close(found.r2_joint, r2(Y[S // 2 :], P))
    P = second[S // 2 :] @ fit.alone[1].weights_DV + fit.alone[1].bias_V
    torch.testing.assert_close(found.r2_second, r2(Y[S // 2 :], P))


def test_what_a_useless_set_adds_is_not_significant_more_often_than_chance() -> None:
    generator = torch.Generator().manual_seed(4)
    first, second = torch.randn(300, 8, generator=generator), torch.randn(300, 4, generator=generator)
    Y = second @ torch.randn(4, 400, generator=generator) + torch.randn(300, 400, generator=generator)
    _, found = partition(first, second, Y, ALPHAS)
    assert found.p_unique_first is not None and found.p_unique_second is not None
    assert float((found.p_unique_first < 0.05).float().mean()) < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert float((found.p_unique_second < 0.05).float().mean()) > 0.9
    assert float(found.unique_first.abs().max()) < 0.1 < float(found.unique_second.median())


def test_band_weights_and_images_are_checked() -> None:
    first, second, _ = problem()
    with pytest.raises(ValueError, match="have 0 and 1 among them"):
        prepare_bands(first, second, fold_of_images(S, 4, 0), (0.5, 1.0))
    with pytest.raises(ValueError, match="same images, got 120 and 119"):
        prepare_bands(first, second[1:], fold_of_images(S, 4, 0))


def test_constant_responses_have_no_scores() -> None:
    first, second, Y = problem()
    fit, found = partition(first, second, torch.cat([Y, torch.ones(S, 1)], dim=1), ALPHAS)
    assert bool(found.r2_joint[-1].isnan() and found.unique_first[-1].isnan()) and not bool(found.r2_joint[:-1].isnan().any())
    assert float(fit.first_DV[:, -1].abs().max()) == 0
