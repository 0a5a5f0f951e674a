"""How far a projection depends on which images the bank happens to hold: cosines between projections on disjoint parts of it.

METHOD: two half-banks agree at a median cosine of .58 to .97 only, so agreement is published per voxel.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from scuba_ray.core.states import SoftmaxState
from scuba_ray.core.vectors import cosine


def pair_agreement(embedding_QVD: Tensor) -> Tensor:
    """Mean cosine over the pairs of Q projections of each voxel.

    Parameters
    ----------
    embedding_QVD : Tensor of shape (Q, V, D)
        Projections on the partitions that have images.

    Returns
    -------
    Tensor of shape (V,)
        NaN if there are fewer than two.
    """
    pairs = list(combinations(embedding_QVD, 2))
    return _mean([cosine(a, b) for a, b in pairs], embedding_QVD.new_empty(embedding_QVD.shape[1]))


def half_agreement(state: SoftmaxState) -> Tensor:
    """Mean cosine between a voxel's projections on two halves of the bank, over all ways of halving its partitions.

    Halves are disjoint and together the whole bank. Of five partitions there are ten ways to set two against three; of fewer with
    images, those that exist: three of four (two against two), three of three (one against two), one of two.

    Returns
    -------
    Tensor of shape (V,)
        NaN if fewer than two partitions have images.
    """
    filled = torch.nonzero(state.count_P > 0)[:, 0].tolist()
    cosines = [cosine(_direction(state, one), _direction(state, other)) for one, other in _halvings(filled)]
    return _mean(cosines, state.peak_PV[0])


def _halvings(partitions: list[int]) -> Iterator[tuple[list[int], list[int]]]:
    smaller = len(partitions) // 2
    for half in combinations(partitions, smaller):
        rest = [partition for partition in partitions if partition not in half]
        if smaller and (smaller < len(rest) or half[0] == partitions[0]):  # of two equal halves, one order is enough
            yield list(half), rest


def _direction(state: SoftmaxState, partitions: list[int]) -> Tensor:
    """The direction, of any length, of the projection on some partitions together."""
    peak_HV = state.peak_PV[partitions]
    mass_HV = torch.exp(peak_HV - peak_HV.amax(0)) * state.mass_PV[partitions]
    direction_VD = torch.zeros_like(state.direction_PVD[0])
    for partition, share_V in zip(partitions, mass_HV / mass_HV.sum(0), strict=True):
        direction_VD.addcmul_(state.direction_PVD[partition], share_V[:, None])
    return direction_VD


def _mean(cosines: list[Tensor], like: Tensor) -> Tensor:
    # one after the other: see `states.combine`
    return sum(cosines[1:], start=cosines[0]) / len(cosines) if cosines else torch.full_like(like, torch.nan)
