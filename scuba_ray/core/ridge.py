"""Ridge regression with one alpha per voxel, chosen by cross-validation over folds of images, from sums of squares alone.

    b* = argmin_b ||Y - X b - c||^2 + alpha ||b||^2

A design has few features (D = 512) and many images (S = 9000), so each fold of images is summarised by its Gram matrix
G_k = X_k'X_k and cross products C_k = X_k'Y_k. Training on all folds but k needs one eigendecomposition
G - G_k = Q diag(l) Q', in which every alpha for every voxel is a scaling, b = Q t / (l + alpha) with t = Q'(C - C_k), and the
loss on the fold is ||y||^2 - 2 b'C_k + b'G_k b. With H = Q'G_k Q the last term needs no product per alpha either, since

    1 / ((l_d + a)(l_e + a)) = [1 / (l_d + a) - 1 / (l_e + a)] / (l_e - l_d)

turns sum_de t_d t_e H_de / ((l_d + a)(l_e + a)) into 2 sum_d t_d (M t)_d / (l_d + a), M_de = H_de / (l_e - l_d), plus the pairs
of (nearly) equal eigenvalues, where the product is a square. So a fold costs four products of D x D by D x V, however many
alphas. Everything is float64; features and responses are centred on the training folds' means, as an intercept asks.

The same losses, alphas and coefficients as himalaya's `RidgeCV(fit_intercept=True)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 1e-5
"""Eigenvalues closer than this, relatively, count as equal: an error of NEAR^2 / 2 against one of 2e-16 / NEAR, both 5e-11."""
TIE = 1e-10
"""Losses closer than this, relatively, count as equal, and the larger alpha is taken."""


@dataclass(frozen=True)
class Eigen:
    """A symmetric matrix as `vectors_DD @ diag(values_D) @ vectors_DD.T`; directions without variance have value 0."""

    values_D: Tensor
    vectors_DD: Tensor


@dataclass(frozen=True)
class Fold:
    """What a held-out fold of images contributes, in the eigenbasis of the other folds' Gram matrix."""

    images: Tensor
    """Row numbers of the fold's images, int64."""
    mean_D: Tensor
    """Mean feature over the *other* folds' images, relative to the mean over all."""
    train: Eigen
    equal_DD: Tensor
    """H where eigenvalues are (nearly) equal, the diagonal included; zero elsewhere."""
    apart_DD: Tensor
    """M = H_de / (l_e - l_d) elsewhere."""


@dataclass(frozen=True)
class Gram:
    """Everything about the features that voxels share. Computed once per subject; about `8 * D^2 * (3 F + 1)` bytes."""

    count: int
    mean_D: Tensor
    whole: Eigen
    folds: tuple[Fold, ...]


@dataclass(frozen=True)
class RidgeFit:
    """A block of fitted voxels."""

    weights_DV: Tensor
    """float32."""
    bias_V: Tensor
    """float32."""
    alpha_V: Tensor
    """The alpha chosen, float32."""
    alpha_at_edge_V: Tensor
    """Whether it is the smallest or largest of the grid: a better one may lie outside."""
    loss_V: Tensor
    """Mean squared error at that alpha, averaged over the held-out folds, float32."""


def fold_of_images(count: int, folds: int, seed: int) -> Tensor:
    """Assign images to folds at random, sizes differing by at most one.

    Responses are averaged over an image's repeats first, so a fold never holds a repeat of another fold's image.

    Returns
    -------
    Tensor of shape (count,), int64

    Raises
    ------
    ValueError
        If there are fewer images than folds, or fewer than two folds.
    """
    if not 2 <= folds <= count:
        raise ValueError(f"folds must be at least 2 and at most the number of images ({count}), got {folds}")
    order_S = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return (torch.arange(count) % folds)[order_S]


def prepare_gram(X_SD: Tensor, folds_S: Tensor) -> Gram:
    """Gram matrices and eigendecompositions of a design, to be shared by all blocks of voxels.

    Parameters
    ----------
    X_SD : Tensor of shape (S, D)
        Features of the training images.
    folds_S : Tensor of shape (S,), integer
        Fold of each image, 0 to F - 1 (`fold_of_images`); every fold holds an image.

    Returns
    -------
    Gram
        On the device of `X_SD`. Peak memory while computing: `8 * D * (S + 3 F D)` bytes.

    Raises
    ------
    ValueError
        If shapes disagree, a feature is not finite, a fold is empty or there are fewer than two.
    """
    if X_SD.ndim != 2 or folds_S.shape != X_SD.shape[:1]:
        raise ValueError(f"X must be (S, D) and folds (S,), got {tuple(X_SD.shape)} and {tuple(folds_S.shape)}")
    if not bool(torch.isfinite(X_SD).all()):
        raise ValueError("features must be finite, got NaN or infinity")
    images = [(folds_S == k).nonzero()[:, 0] for k in range(int(folds_S.max()) + 1)]
    sizes = [len(rows) for rows in images]
    if len(sizes) < 2 or min(sizes) == 0 or sum(sizes) != len(folds_S):
        raise ValueError(f"folds must number the images 0 to F - 1 with F >= 2 and none empty, got sizes {sizes}")
    centred_SD = X_SD.double()
    mean_D = centred_SD.mean(0)
    centred_SD = centred_SD - mean_D
    parts = [centred_SD[rows.to(X_SD.device)] for rows in images]
    grams = [part.T @ part for part in parts]
    whole_DD = torch.stack(grams).sum(0)
    folds = tuple(
        _fold(rows.to(X_SD.device), part.sum(0), gram_DD, whole_DD, len(X_SD))
        for rows, part, gram_DD in zip(images, parts, grams, strict=True)
    )
    return Gram(count=len(X_SD), mean_D=mean_D, whole=_eigen(whole_DD), folds=folds)


def _fold(images: Tensor, sum_D: Tensor, gram_DD: Tensor, whole_DD: Tensor, count: int) -> Fold:
    """Summarise a fold; sums are of features centred on the mean of all images, so the training folds' sum is `-sum_D`."""
    held_out, trained = len(images), count - len(images)
    mean_D = -sum_D / trained
    train = _eigen(whole_DD - gram_DD - trained * torch.outer(mean_D, mean_D))
    crossed_DD = torch.outer(sum_D, mean_D)
    centred_DD = gram_DD - crossed_DD - crossed_DD.T + held_out * torch.outer(mean_D, mean_D)
    rotated_DD = train.vectors_DD.T @ centred_DD @ train.vectors_DD
    gap_DD = train.values_D - train.values_D[:, None]
    equal_DD = gap_DD.abs() <= NEAR * torch.maximum(train.values_D, train.values_D[:, None])
    return Fold(
        images=images,
        mean_D=mean_D,
        train=train,
        equal_DD=torch.where(equal_DD, rotated_DD, 0.0),
        apart_DD=torch.where(equal_DD, 0.0, rotated_DD / torch.where(equal_DD, 1.0, gap_DD)),
    )


def _eigen(matrix_DD: Tensor) -> Eigen:
    """Eigendecomposition of a Gram matrix; what rounding leaves of absent directions (fewer images than features) becomes 0."""
    values_D, vectors_DD = torch.linalg.eigh(matrix_DD)
    floor = values_D[-1].clamp(min=0) * len(values_D) * torch.finfo(values_D.dtype).eps
    return Eigen(values_D=torch.where(values_D > floor, values_D, 0.0), vectors_DD=vectors_DD)


def ridge(gram: Gram, X_SD: Tensor, Y_SV: Tensor, alphas_A: Tensor) -> RidgeFit:
    """Fit a block of voxels, each with its own cross-validated alpha.

    Parameters
    ----------
    gram : Gram
        `prepare_gram(X_SD, folds_S)`.
    X_SD : Tensor of shape (S, D)
        Features of the training images.
    Y_SV : Tensor of shape (S, V)
        Their responses. Peak memory is about `8 * V * (S + D * (F + 4))` bytes.
    alphas_A : Tensor of shape (A,)
        Penalties to try, all > 0, in any order.

    Returns
    -------
    RidgeFit
        A constant voxel gets zero weights and the largest alpha. A voxel's fit does not depend on those beside it.

    Raises
    ------
    ValueError
        If shapes disagree, a response is not finite or an alpha is not positive.

    Notes
    -----
    The loss is the mean over folds of each fold's mean squared error. Of equal losses the largest alpha is taken.
    """
    _check(gram, X_SD, Y_SV, alphas_A)
    alphas_A = alphas_A.to(device=X_SD.device, dtype=torch.float64)
    Y_SV = Y_SV.double()
    mean_V = Y_SV.mean(0)
    Y_SV = Y_SV - mean_V
    cross_FDV = torch.stack([(X_SD[fold.images].double() - gram.mean_D).T @ Y_SV[fold.images] for fold in gram.folds])
    cross_DV = cross_FDV.sum(0)
    loss_AV = torch.stack(
        [
            _fold_loss(fold, gram.count, cross_DV, cross_FDV[k], Y_SV[fold.images], alphas_A=alphas_A)
            for k, fold in enumerate(gram.folds)
        ]
    ).mean(0)
    best_V, loss_V = _choose(loss_AV, alphas_A)
    alpha_V = alphas_A[best_V]
    rotated_DV = _along(gram.whole, cross_DV) / (gram.whole.values_D[:, None] + alpha_V)
    weights_DV = gram.whole.vectors_DD @ rotated_DV
    return RidgeFit(
        weights_DV=weights_DV.float(),
        bias_V=(mean_V - gram.mean_D @ weights_DV).float(),
        alpha_V=alpha_V.float(),
        alpha_at_edge_V=(alpha_V == alphas_A.min()) | (alpha_V == alphas_A.max()),
        loss_V=loss_V.float(),
    )


def _check(gram: Gram, X_SD: Tensor, Y_SV: Tensor, alphas_A: Tensor) -> None:
    if X_SD.shape != (gram.count, len(gram.mean_D)):
        raise ValueError(f"X must be the design of the Gram, {(gram.count, len(gram.mean_D))}, got {tuple(X_SD.shape)}")
    if Y_SV.ndim != 2 or len(Y_SV) != gram.count:
        raise ValueError(f"Y must have shape ({gram.count}, V), got {tuple(Y_SV.shape)}")
    if alphas_A.ndim != 1 or len(alphas_A) == 0 or not bool(((alphas_A > 0) & torch.isfinite(alphas_A)).all()):
        raise ValueError(f"alphas must be a list of positive numbers, got {alphas_A.tolist()}")
    bad = (~torch.isfinite(Y_SV)).any(0)
    if bool(bad.any()):
        raise ValueError(f"responses must be finite; {int(bad.sum())} of {len(bad)} voxels hold NaN or infinity")


def _along(eigen: Eigen, cross_DV: Tensor) -> Tensor:
    """Cross products in the eigenbasis, exactly zero in directions that the images do not span."""
    return torch.where(eigen.values_D[:, None] > 0, eigen.vectors_DD.T @ cross_DV, 0.0)


def _fold_loss(fold: Fold, count: int, cross_DV: Tensor, held_cross_DV: Tensor, Y_KV: Tensor, *, alphas_A: Tensor) -> Tensor:
    """Mean squared error (A, V) on a fold of weights fitted to the others. `Y_KV`: the fold's responses, centred over all."""
    held_out, trained = len(Y_KV), count - len(Y_KV)
    sum_V = Y_KV.sum(0)
    mean_V = -sum_V / trained
    sum_D = -fold.mean_D * trained
    centred_DV = (
        held_cross_DV - torch.outer(sum_D, mean_V) - torch.outer(fold.mean_D, sum_V) + held_out * torch.outer(fold.mean_D, mean_V)
    )
    t_DV = _along(fold.train, cross_DV - held_cross_DV - trained * torch.outer(fold.mean_D, mean_V))
    held_DV = fold.train.vectors_DD.T @ centred_DV
    scale_AD = 1 / (fold.train.values_D + alphas_A[:, None])
    energy_V = ((Y_KV - mean_V) ** 2).sum(0)
    linear_AV = scale_AD @ (t_DV * (fold.apart_DD @ t_DV - held_DV))
    square_AV = scale_AD**2 @ (t_DV * (fold.equal_DD @ t_DV))
    return (energy_V + 2 * linear_AV + square_AV) / held_out


def _choose(loss_AV: Tensor, alphas_A: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the alpha with the least loss, the largest among ties, and its loss."""
    least_V = loss_AV.amin(0)
    tied_AV = loss_AV <= least_V + TIE * least_V.abs()
    best_V = torch.where(tied_AV, alphas_A[:, None], 0.0).argmax(0)
    return best_V, loss_AV.gather(0, best_V[None])[0]
