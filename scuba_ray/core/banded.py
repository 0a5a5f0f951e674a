"""Banded ridge of two feature sets, and what each explains that the other cannot (variance partitioning).

    b* = argmin_b ||Y - Z b - c||^2 + alpha ||b||^2,   Z = [sqrt(g) X_1, sqrt(1 - g) X_2]

Scaling a set is giving it a penalty of its own, alpha / g and alpha / (1 - g) (Nunez-Elizalde, Huth & Gallant 2019; Dupre la Tour
et al. 2022), so every band weight g is an ordinary ridge from Gram matrices (`core.ridge`). g and alpha are chosen per voxel by
the same cross-validation. g = 1 and g = 0 are each set alone and are among the choices: a set that only adds noise gets none.
Equal to himalaya's `GroupRidgeCV` where it searches the same band weights.

Held-out R2 of the joint model and of each alone give

    unique_1 = R2 - R2_2,   unique_2 = R2 - R2_1,   shared = R2_1 + R2_2 - R2,   unique_1 + unique_2 + shared = R2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scuba_ray.core.ridge import Gram, RidgeFit, prepare_gram, ridge
from scuba_ray.core.statistics import permutation_p, r2

BAND_WEIGHTS = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Weights g of the first set that are tried; the second has 1 - g."""


@dataclass(frozen=True)
class Bands:
    """Two feature sets of the training images, ready for any number of voxels."""

    weights_G: tuple[float, ...]
    designs: tuple[Tensor, ...]
    """Per band weight the scaled sets side by side (S, D1 + D2)."""
    grams: tuple[Gram, ...]
    scale: tuple[float, float]
    """What each set was multiplied by before band weights: 1 / sqrt of its total variance over the training images."""


@dataclass(frozen=True)
class BandedFit:
    """A block of voxels: the joint model and each set alone. Coefficients are those of the sets as they were given."""

    first_DV: Tensor
    """Coefficients (D1, V) of the first set in the joint model, float32."""
    second_DV: Tensor
    bias_V: Tensor
    weight_V: Tensor
    """Band weight g chosen for the first set, float32."""
    alpha_V: Tensor
    alone: tuple[RidgeFit, RidgeFit]
    """Each set on its own, its coefficients those of the set as it was given."""


@dataclass(frozen=True)
class Partition:
    """Held-out variance, each (V,) float32, NaN for constant responses; see the module's formulas."""

    r2_joint: Tensor
    r2_first: Tensor
    r2_second: Tensor
    unique_first: Tensor
    unique_second: Tensor
    shared: Tensor
    p_unique_first: Tensor | None
    """p that what the first set adds to the second's prediction has nothing to do with what that leaves; NaN: it adds nothing."""
    p_unique_second: Tensor | None


def prepare_bands(first_SD: Tensor, second_SD: Tensor, folds_S: Tensor, weights_G: Sequence[float] = BAND_WEIGHTS) -> Bands:
    """Scale and combine two feature sets at every band weight.

    Each set is first divided by the square root of its total variance over the images, so that band weights compare sets of any
    length and unit.

    Parameters
    ----------
    first_SD, second_SD : Tensor of shape (S, D1), (S, D2)
        Features of the training images.
    folds_S : Tensor of shape (S,), integer
        Fold of each image (`core.ridge.fold_of_images`).
    weights_G : sequence of float
        Band weights of the first set to try, in [0, 1]; 0 and 1 must be among them.

    Returns
    -------
    Bands
        About `G * (8 * D^2 * (3 F + 1) + 4 * S * D)` bytes, D = D1 + D2.

    Raises
    ------
    ValueError
        If the sets have different images, or band weights lack 0 or 1 or leave [0, 1].
    """
    if len(first_SD) != len(second_SD):
        raise ValueError(f"both sets need the same images, got {len(first_SD)} and {len(second_SD)}")
    if not {0.0, 1.0} <= set(weights_G) or min(weights_G) < 0 or max(weights_G) > 1:
        raise ValueError(f"band weights must lie in [0, 1] and have 0 and 1 among them, got {list(weights_G)}")
    scale = (_scale(first_SD), _scale(second_SD))
    designs = tuple(torch.cat([g**0.5 * scale[0] * first_SD, (1 - g) ** 0.5 * scale[1] * second_SD], dim=1) for g in weights_G)
    return Bands(tuple(weights_G), designs, tuple(prepare_gram(design, folds_S) for design in designs), scale)


def _scale(X_SD: Tensor) -> float:
    variance = float(X_SD.double().var(0, correction=0).sum())
    return variance**-0.5 if variance > 0 else 1.0


def banded_ridge(bands: Bands, dim: int, Y_SV: Tensor, alphas_A: Tensor) -> BandedFit:
    """Fit a block of voxels, each with its own cross-validated band weight and alpha.

    Parameters
    ----------
    bands : Bands
        `prepare_bands` of the training images.
    dim : int
        Features of the first set, D1.
    Y_SV : Tensor of shape (S, V)
    alphas_A : Tensor of shape (A,)
        Penalties to try, for sets of total variance 1.

    Notes
    -----
    Costs one ridge per band weight. Of equal losses the earlier band weight is taken.
    """
    fits = [ridge(gram, design, Y_SV, alphas_A) for gram, design in zip(bands.grams, bands.designs, strict=True)]
    best_V = torch.stack([fit.loss_V for fit in fits]).argmin(0)
    weight_G = torch.tensor(bands.weights_G, device=Y_SV.device)
    weight_V = weight_G[best_V]
    voxels = torch.arange(Y_SV.shape[1], device=Y_SV.device)
    scaled_DV = torch.stack([fit.weights_DV for fit in fits])[best_V, :, voxels].T

    def alone(fit: RidgeFit, part: slice, scale: float) -> RidgeFit:
        return RidgeFit(fit.weights_DV[part] * scale, fit.bias_V, fit.alpha_V, fit.alpha_at_edge_V, fit.loss_V)

    first, second = slice(dim), slice(dim, None)
    return BandedFit(
        first_DV=weight_V.sqrt() * bands.scale[0] * scaled_DV[first],
        second_DV=(1 - weight_V).sqrt() * bands.scale[1] * scaled_DV[second],
        bias_V=torch.stack([fit.bias_V for fit in fits])[best_V, voxels],
        weight_V=weight_V,
        alpha_V=torch.stack([fit.alpha_V for fit in fits])[best_V, voxels],
        alone=(
            alone(fits[bands.weights_G.index(1.0)], first, bands.scale[0]),
            alone(fits[bands.weights_G.index(0.0)], second, bands.scale[1]),
        ),
    )


def partition_variance(
    fit: BandedFit, first_SD: Tensor, second_SD: Tensor, Y_SV: Tensor, *, permutations: int, seed: int, block: int = 1
) -> Partition:
    """Score a banded fit on images it has not seen.

    Parameters
    ----------
    fit : BandedFit
    first_SD, second_SD : Tensor of shape (S, D1), (S, D2)
        Features of the test images, scaled as those of the training images were.
    Y_SV : Tensor of shape (S, V)
        Responses to them.
    permutations, seed, block
        As in `permutation_p`; without permutations there is no p. p is one-sided: of the correlation between what a set adds to
        the other's prediction and what the other's prediction leaves of the responses.
    """
    joint_SV = first_SD @ fit.first_DV + second_SD @ fit.second_DV + fit.bias_V
    alone = [X_SD @ one.weights_DV + one.bias_V for X_SD, one in zip((first_SD, second_SD), fit.alone, strict=True)]
    r2_joint, r2_first, r2_second = (r2(Y_SV, P_SV).double() for P_SV in (joint_SV, *alone))
    p_first = p_second = None
    if permutations:
        p_second, p_first = (
            permutation_p(Y_SV - P_SV, joint_SV - P_SV, permutations=permutations, seed=seed, block=block) for P_SV in alone
        )
    unique_first, unique_second = r2_joint - r2_second, r2_joint - r2_first
    return Partition(
        r2_joint=r2_joint.float(),
        r2_first=r2_first.float(),
        r2_second=r2_second.float(),
        unique_first=unique_first.float(),
        unique_second=unique_second.float(),
        shared=(r2_joint - unique_first - unique_second).float(),
        p_unique_first=p_first,
        p_unique_second=p_second,
    )
