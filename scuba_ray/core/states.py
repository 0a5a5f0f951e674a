"""Softmax states: all that must be known of images seen so far, in a form that merges.

Sums are kept relative to a running maximum. Two states merge to exactly the state of all their images together, so tiles,
segments, actors and nodes give one answer. Each disjoint partition of the bank keeps its own state, and the whole bank is
their merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from scuba_ray.core.nearest import ABSENT


@dataclass
class SoftmaxState:
    """What is known of the bank images seen so far, per partition P and voxel V. Merged, moved and saved as it is.

    With e_j = exp(beta v.u_j - peak). All zero, and peak -inf, where a partition has no image yet.
    """

    count_P: Tensor
    """Images seen, int64."""
    peak_PV: Tensor
    """Largest logit beta v.u."""
    mass_PV: Tensor
    """Z = sum e."""
    square_PV: Tensor
    """sum e^2."""
    norm_PV: Tensor
    """sum e n / Z."""
    direction_PVD: Tensor
    """sum e u / Z."""
    nearest_PVk: Tensor
    """The nearest images as keys of cosine and global index, falling (`core.nearest`), int64. Of width 0 where another state
    keeps them: they merge in any order, so one list can go along many states."""

    def to(self, device: torch.device | str) -> SoftmaxState:
        """The same state on another device."""
        return SoftmaxState(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def __getstate__(self) -> dict[str, Any]:
        """As arrays, which travel between processes without a copy."""
        return {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}

    def __setstate__(self, arrays: dict[str, Any]) -> None:
        for name, array in arrays.items():
            setattr(self, name, torch.tensor(array))


def empty_state(
    voxels: int, dim: int, partitions: int = 5, nearest: int = 64, device: torch.device | str = "cpu"
) -> SoftmaxState:
    """The state before any image: `4 * P * V * (D + 2 k + 4)` bytes."""

    def filled(value: float, *shape: int) -> Tensor:
        return torch.full((partitions, *shape), value, device=device)

    return SoftmaxState(
        count_P=torch.zeros(partitions, dtype=torch.int64, device=device),
        peak_PV=filled(-torch.inf, voxels),
        mass_PV=filled(0.0, voxels),
        square_PV=filled(0.0, voxels),
        norm_PV=filled(0.0, voxels),
        direction_PVD=filled(0.0, voxels, dim),
        nearest_PVk=torch.full((partitions, voxels, nearest), ABSENT, dtype=torch.int64, device=device),
    )


def merge(a: SoftmaxState, b: SoftmaxState) -> SoftmaxState:
    """The state of the images of `a` and `b` together: associative, and commutative, up to rounding.

    Raises
    ------
    ValueError
        If the states differ in partitions, voxels, dimension or number of nearest images (none is no difference).
    """
    widths = {a.nearest_PVk.shape[2], b.nearest_PVk.shape[2]} - {0}
    if a.direction_PVD.shape != b.direction_PVD.shape or len(widths) > 1:
        raise ValueError(
            f"states differ: {tuple(a.direction_PVD.shape)} and {tuple(b.direction_PVD.shape)} (partitions, voxels, dimension),"
            f" {a.nearest_PVk.shape[-1]} and {b.nearest_PVk.shape[-1]} nearest images"
        )
    return combine([a, b])


def combine(states: Sequence[SoftmaxState]) -> SoftmaxState:
    """Merge states of equal shapes, relative to their largest peaks.

    Sums go state by state: a reduction over a stack takes another order for the last few voxels, whose last bits would differ.
    """
    peak_PV = torch.stack([state.peak_PV for state in states]).amax(0)
    kept = [torch.where(state.count_P[:, None] > 0, torch.exp(state.peak_PV - peak_PV), 0.0) for state in states]
    masses = [state.mass_PV * factor for state, factor in zip(states, kept, strict=True)]
    squares = [state.square_PV * factor**2 for state, factor in zip(states, kept, strict=True)]
    mass_PV = sum(masses[1:], start=masses[0])
    total_PV = torch.where(mass_PV > 0, mass_PV, 1.0)
    norm_PV, direction_PVD = torch.zeros_like(mass_PV), torch.zeros_like(states[0].direction_PVD)
    for state, mine_PV in zip(states, masses, strict=True):
        share_PV = mine_PV / total_PV
        norm_PV.addcmul_(state.norm_PV, share_PV)
        direction_PVD.addcmul_(state.direction_PVD, share_PV[..., None])
    keys = torch.cat([state.nearest_PVk for state in states], dim=2)
    return SoftmaxState(
        count_P=torch.stack([state.count_P for state in states]).sum(0),
        peak_PV=peak_PV,
        mass_PV=mass_PV,
        square_PV=sum(squares[1:], start=squares[0]),
        norm_PV=norm_PV,
        direction_PVD=direction_PVD,
        nearest_PVk=torch.topk(keys, max(state.nearest_PVk.shape[2] for state in states), dim=2).values,
    )


def partition_of(state: SoftmaxState, partition: int) -> SoftmaxState:
    """The state of one partition: a view, whose change changes the state."""
    return SoftmaxState(**{f.name: getattr(state, f.name)[partition : partition + 1] for f in fields(SoftmaxState)})


def first_voxels(state: SoftmaxState, voxels: int) -> SoftmaxState:
    """The state of the first voxels: a view."""
    return SoftmaxState(
        **{f.name: getattr(state, f.name)[:, :voxels] if f.name != "count_P" else state.count_P for f in fields(SoftmaxState)}
    )
