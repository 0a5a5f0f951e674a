"""Ridge against himalaya and scikit-learn, and where designs and voxels degenerate."""

import numpy as np
import pytest
import torch
from himalaya.ridge import RidgeCV
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

from scuba_ray.core.ridge import fold_of_images, prepare_gram, ridge

ALPHAS = torch.logspace(-2, 4, 13, dtype=torch.float64)


def problem(images=300, dim=24, voxels=40, *, seed=0, decay=2.0):
    """Correlated features on an offset, voxels from noiseless to pure noise, with means and scales of their own."""
    generator = torch.Generator().manual_seed(seed)
    mix_DD = torch.randn(dim, dim, generator=generator) * torch.logspace(0, -decay, dim)[:, None]
    X_SD = torch.randn(images, dim, generator=generator) @ mix_DD + 0.5
    signal_SV = X_SD @ torch.randn(dim, voxels, generator=generator)
    noise_V = torch.linspace(0, 20, voxels)
    Y_SV = signal_SV + noise_V * torch.randn(images, voxels, generator=generator)
    return X_SD, Y_SV * torch.logspace(-1, 2, voxels) + torch.linspace(-5, 50, voxels)


def fit(X_SD, Y_SV, folds_S, alphas_A=ALPHAS):
    return ridge(prepare_gram(X_SD, folds_S), X_SD, Y_SV, alphas_A)


def himalaya(X_SD, Y_SV, folds_S):
    model = RidgeCV(
        alphas=ALPHAS.numpy(),
        fit_intercept=True,
        cv=PredefinedSplit(folds_S.numpy()),
        solver_params={"local_alpha": True, "warn": False},
    )
    return model.fit(X_SD.double().numpy(), Y_SV.double().numpy())


def assert_close(got, expected, rtol):
    error = np.linalg.norm(got - expected, axis=0) / np.linalg.norm(expected, axis=0)
    assert error.max() <= rtol


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"decay": 0.0},
        {"decay": 5.0},
        {"images": 37, "dim": 24},  # folds of 7 and 8
        {"images": 40, "dim": 64},  # fewer images than features
    ],
)
def test_equals_himalaya(shape):
    X_SD, Y_SV = problem(**shape)
    folds_S = fold_of_images(len(X_SD), 5, seed=1)
    fitted, reference = fit(X_SD, Y_SV, folds_S), himalaya(X_SD, Y_SV, folds_S)
    np.testing.assert_allclose(fitted.alpha_V.numpy(), reference.best_alphas_, rtol=1e-6)
    assert len(fitted.alpha_V.unique()) > 2
    assert_close(fitted.weights_DV.numpy(), reference.coef_, 1e-4)
    np.testing.assert_allclose(fitted.bias_V, reference.intercept_, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fitted.loss_V, -reference.cv_scores_, rtol=1e-5, atol=1e-7)


def test_equals_sklearn_at_the_chosen_alpha():
    X_SD, Y_SV = problem()
    fitted = fit(X_SD, Y_SV, fold_of_images(300, 5, seed=1))
    for v in range(0, 40, 7):
        model = Ridge(alpha=float(fitted.alpha_V[v].double()), solver="svd").fit(X_SD.double(), Y_SV[:, v].double())
        assert_close(fitted.weights_DV[:, v].numpy(), model.coef_, 1e-4)
        np.testing.assert_allclose(fitted.bias_V[v], model.intercept_, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), groups=st.integers(1, 6), folds=st.integers(2, 6))
def test_equal_and_nearly_equal_eigenvalues_give_the_same_losses(seed, groups, folds):
    """Indicator features have equal eigenvalues; a little noise makes them nearly equal, across the threshold `NEAR`."""
    generator = torch.Generator().manual_seed(seed)
    X_SD = torch.eye(groups, dtype=torch.float64).repeat(60 // groups, 1)
    X_SD += torch.randn(X_SD.shape, generator=generator, dtype=torch.float64) * 10 ** -float(1 + seed % 12)
    Y_SV = torch.randn(len(X_SD), 5, generator=generator, dtype=torch.float64) + X_SD @ torch.randn(
        groups, 5, generator=generator, dtype=torch.float64
    )
    folds_S = fold_of_images(len(X_SD), folds, seed)
    for alpha in (1e-3, 0.3, 30.0, 1e4):
        fitted = fit(X_SD, Y_SV, folds_S, torch.tensor([alpha]))
        losses = []
        for k in range(folds):
            train, test = folds_S != k, folds_S == k
            model = Ridge(alpha=alpha, solver="svd").fit(X_SD[train], Y_SV[train])
            losses.append(((model.predict(X_SD[test]) - Y_SV[test].numpy()) ** 2).mean(0))
        np.testing.assert_allclose(fitted.loss_V, np.mean(losses, 0), rtol=2e-6)


def test_blocks_of_voxels_give_what_all_give_together():
    X_SD, Y_SV = problem()
    folds_S = fold_of_images(300, 5, seed=1)
    gram = prepare_gram(X_SD, folds_S)
    together = ridge(gram, X_SD, Y_SV, ALPHAS)
    blocks = [ridge(gram, X_SD, Y_SV[:, start : start + 7], ALPHAS) for start in range(0, 40, 7)]
    torch.testing.assert_close(torch.cat([block.weights_DV for block in blocks], 1), together.weights_DV, rtol=1e-6, atol=1e-9)
    assert torch.equal(torch.cat([block.alpha_V for block in blocks]), together.alpha_V)


def test_alpha_at_edge():
    X_SD, Y_SV = problem(decay=0.0)
    folds_S = fold_of_images(300, 5, seed=1)
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(5))
    fitted = fit(X_SD, torch.cat([Y_SV[:, :1], Y_SV[:, 20:21], noise], 1), folds_S)
    assert fitted.alpha_V[0] == ALPHAS[0].float()
    assert fitted.alpha_at_edge_V.tolist() == [True, False, True]
    shuffled = fit(X_SD, Y_SV, folds_S, ALPHAS[torch.randperm(13)])
    assert torch.equal(shuffled.alpha_V, fit(X_SD, Y_SV, folds_S).alpha_V)


def test_constant_voxels_and_features_give_finite_defined_results():
    X_SD, Y_SV = problem()
    X_SD[:, 3] = 7.0
    X_SD[:, 4] = X_SD[:, 5]
    folds_S = fold_of_images(300, 5, seed=1)
    Y_SV[:, 0] = 3.25
    Y_SV[:, 1] = 0.0
    Y_SV[folds_S == 2, 2] = 1.0  # no variance in one fold
    Y_SV[folds_S != 2, 3] = 1.0  # variance in one fold only
    fitted = fit(X_SD, Y_SV, folds_S)
    for field in (fitted.weights_DV, fitted.bias_V, fitted.alpha_V, fitted.loss_V):
        assert field.isfinite().all()
    assert (fitted.weights_DV[:, :2] == 0).all()
    assert fitted.bias_V[:2].tolist() == [3.25, 0.0]
    assert (fitted.alpha_V[:2] == ALPHAS.max().float()).all()
    assert fitted.alpha_at_edge_V[:2].all()
    assert fitted.weights_DV[3].abs().max() < 1e-6
    torch.testing.assert_close(fitted.weights_DV[4], fitted.weights_DV[5], rtol=1e-3, atol=1e-4)


def test_a_design_without_variance_predicts_the_mean():
    Y_SV = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    fitted = fit(torch.ones(20, 4), Y_SV, fold_of_images(20, 4, 0))
    assert (fitted.weights_DV == 0).all()
    torch.testing.assert_close(fitted.bias_V, Y_SV.mean(0))


def test_large_offsets_cost_no_accuracy():
    X_SD, Y_SV = problem()
    folds_S = fold_of_images(300, 5, seed=1)
    plain, shifted = fit(X_SD.double(), Y_SV.double(), folds_S), fit(X_SD.double() + 1e4, Y_SV.double() - 1e5, folds_S)
    assert torch.equal(plain.alpha_V, shifted.alpha_V)
    assert_close(shifted.weights_DV.numpy(), plain.weights_DV.numpy(), 1e-4)


def test_folds_are_balanced_and_seeded():
    folds_S = fold_of_images(103, 5, seed=3)
    assert sorted(folds_S.bincount().tolist()) == [20, 20, 21, 21, 21]
    assert torch.equal(folds_S, fold_of_images(103, 5, seed=3))
    assert not torch.equal(folds_S, fold_of_images(103, 5, seed=4))


def test_what_is_refused():
    X_SD, Y_SV = problem(images=20, dim=3, voxels=2)
    folds_S = fold_of_images(20, 5, 0)
    with pytest.raises(ValueError, match=r"at most the number of images \(3\), got 5"):
        fold_of_images(3, 5, 0)
    with pytest.raises(ValueError, match="none empty"):
        prepare_gram(X_SD, folds_S.clamp(max=3) * 2)
    with pytest.raises(ValueError, match="features must be finite"):
        prepare_gram(torch.full_like(X_SD, torch.nan), folds_S)
    gram = prepare_gram(X_SD, folds_S)
    Y_SV[4, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 2 voxels"):
        ridge(gram, X_SD, Y_SV, ALPHAS)
    with pytest.raises(ValueError, match="positive"):
        ridge(gram, X_SD, Y_SV[:, :1], torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="design of the Gram"):
        ridge(gram, X_SD[:10], Y_SV[:10, :1], ALPHAS)
    with pytest.raises(ValueError, match=r"Y must have shape \(20, V\)"):
        ridge(gram, X_SD, Y_SV[:10, :1], ALPHAS)
