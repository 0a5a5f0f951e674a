"""Projection of voxel weights onto natural images: BrainSCUBA section 3.2, as streaming softmax states.

A voxel's direction v = w / |w| (bias and gain play no part) attends to K bank images with unit embeddings u_j and norms n_j:

    p_j = softmax_j(beta v.u_j),   direction = normalise(sum_j p_j u_j),   norm = sum_j p_j n_j,   e = norm * direction

The sums are kept relative to a running maximum, so images stream by in tiles, and two states merge to exactly the state of all
their images together: tiles, shards, actors and nodes give one answer. Each disjoint partition of the bank keeps its own state
and the whole bank is their merge, so that all projections, the effective number of images (sum e)^2 / sum e^2 and the nearest
images come out of one pass. The published loop takes four voxels at a time over the whole bank, once per draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from scuba_ray.core.nearest import ABSENT, BLOCK, LARGEST_INDEX, add_tile, block_maxima, decode
from scuba_ray.core.vectors import cosine, cosines_into

ALIGN = 64
"""Scores are computed for a multiple of this many images (zeros fill up). A matrix product takes other code paths at ragged
edges, whose last bits differ; without them an image scores the same wherever it stands in a tile. A multiple of `BLOCK`."""
assert ALIGN % BLOCK == 0


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
    """The nearest images as keys of cosine and global index, falling (`core.nearest`), int64."""

    def to(self, device: torch.device | str) -> SoftmaxState:
        """The same state on another device."""
        return SoftmaxState(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Projection:
    """Projected voxels: one row per partition and, last, one for the whole bank. NaN (index -1) where a partition is empty."""

    embedding_PVD: Tensor
    """e = norm * direction, at the length the captioner was trained on."""
    n_eff_PV: Tensor
    """Effective number of images Z^2 / sum e^2, from 1 to K."""
    cos_before_after_PV: Tensor
    """Cosine of the voxel's direction and its projection; NaN for a voxel without direction."""
    bank_agreement_PV: Tensor
    """Partition rows: cosine with the whole-bank projection. Whole-bank row: mean cosine over the pairs of partitions; NaN if
    fewer than two have images."""
    nearest_index_PVk: Tensor
    nearest_cos_PVk: Tensor
    count_P: Tensor
    """Images in each partition and in the whole bank: 0 marks an empty one."""


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


def update(
    state: SoftmaxState,
    directions_VD: Tensor,
    unit_KD: Tensor,
    norm_K: Tensor,
    partition_K: Tensor,
    *,
    offset: int,
    beta: float,
    tile: int = 8192,
) -> None:
    """Add bank images to a state, in place.

    Parameters
    ----------
    state : SoftmaxState
        From `empty_state`; changed.
    directions_VD : Tensor of shape (V, D), float32
        Unit rows (`vectors.unit_and_norm` of the weights).
    unit_KD : Tensor of shape (K, D), float32
        Image embeddings divided by their norms.
    norm_K : Tensor of shape (K,), float32
        The norms.
    partition_K : Tensor of shape (K,), integer
        Partition of each image. Sorted rows cost nothing extra; unsorted ones are sorted first (a copy of `unit_KD`).
    offset : int
        Global index of the first image; its rows are images offset, offset + 1, ...
    beta : float
        Inverse temperature. The paper uses 150. The same for every update and merge of a state.
    tile : int
        Images scored at once. Peak working memory is `2 * V * tile * 4` bytes, whatever K.

    Raises
    ------
    ValueError
        If shapes disagree, a partition is not one of the state's, or an image's index is beyond 2^32.
    """
    _check(state, directions_VD, unit_KD, norm_K, partition_K)
    if not 0 <= offset <= LARGEST_INDEX + 1 - len(unit_KD):
        raise ValueError(f"global image indices must lie in [0, 2^32), got {offset} to {offset + len(unit_KD) - 1}")
    index_K = torch.arange(offset, offset + len(unit_KD), device=unit_KD.device)
    partitions, counts = torch.unique_consecutive(partition_K, return_counts=True)
    if len(partitions) > len(torch.unique(partition_K)):
        order_K = partition_K.argsort(stable=True)
        unit_KD, norm_K, index_K = unit_KD[order_K], norm_K[order_K], index_K[order_K]
        partitions, counts = torch.unique(partition_K, return_counts=True)
    width = min(tile, int(counts.max()) if len(counts) else 0)
    buffer_2n = unit_KD.new_empty(2, len(directions_VD) * (-(-width // ALIGN) * ALIGN))
    for partition, rows in _tiles(partitions.tolist(), counts.tolist(), tile):
        _add(
            _partition(state, partition),
            directions_VD,
            unit_KD[rows],
            norm_K[rows],
            index_K[rows],
            beta=beta,
            buffer_2n=buffer_2n,
        )


def _check(state: SoftmaxState, directions_VD: Tensor, unit_KD: Tensor, norm_K: Tensor, partition_K: Tensor) -> None:
    partitions, voxels, dim = state.direction_PVD.shape
    if directions_VD.shape != (voxels, dim):
        raise ValueError(f"directions must have shape {(voxels, dim)} as the state has, got {tuple(directions_VD.shape)}")
    if unit_KD.ndim != 2 or unit_KD.shape[1] != dim:
        raise ValueError(f"image embeddings must have shape (K, {dim}), got {tuple(unit_KD.shape)}")
    if norm_K.shape != unit_KD.shape[:1] or partition_K.shape != unit_KD.shape[:1]:
        raise ValueError(f"{len(unit_KD)} images need as many norms and partitions, got {len(norm_K)} and {len(partition_K)}")
    if len(partition_K) and not 0 <= int(partition_K.min()) <= int(partition_K.max()) < partitions:
        raise ValueError(f"partitions must lie in [0, {partitions}), got {int(partition_K.min())} to {int(partition_K.max())}")


def _tiles(partitions: list[int], counts: list[int], tile: int) -> Iterator[tuple[int, slice]]:
    start = 0
    for partition, count in zip(partitions, counts, strict=True):
        for first in range(start, start + count, tile):
            yield partition, slice(first, min(first + tile, start + count))
        start += count


def _add(
    part: SoftmaxState,
    directions_VD: Tensor,
    unit_ND: Tensor,
    norm_N: Tensor,
    index_N: Tensor,
    *,
    beta: float,
    buffer_2n: Tensor,
) -> None:
    """Add one tile to the state of its partition (a view of one row).

    Within a tile the softmax is the library's own, with p = e / Z and so Z = 1 / p_max. Passes over V x N are few on purpose:
    each is a round trip through memory and a wait for the slowest core.
    """
    voxels, images = len(directions_VD), len(unit_ND)
    padded = -(-images // ALIGN) * ALIGN
    scores_VN, p_VN = buffer_2n[:, : voxels * padded].view(2, voxels, padded)
    cosines_into(directions_VD, unit_ND, scores_VN, ALIGN)
    maxima_VM = block_maxima(scores_VN)
    index_N = torch.nn.functional.pad(index_N, (0, padded - images), value=-1)
    part.nearest_PVk[0] = add_tile(part.nearest_PVk[0], scores_VN, maxima_VM, index_N)
    torch.softmax(scores_VN.mul_(beta), dim=1, out=p_VN)
    p_VN = p_VN[:, :images]
    tile_peak_V = maxima_VM.amax(1) * beta
    peak_V = torch.maximum(part.peak_PV[0], tile_peak_V)
    kept_V = torch.exp(part.peak_PV[0] - peak_V)
    mass_V = torch.exp(tile_peak_V - peak_V) / p_VN.amax(1)
    part.mass_PV[0].mul_(kept_V).add_(mass_V)
    part.square_PV[0].mul_(kept_V**2).add_((mass_V * torch.linalg.vector_norm(p_VN, dim=1)) ** 2)
    share_V = mass_V / part.mass_PV[0]
    part.norm_PV[0].lerp_(p_VN @ norm_N, share_V)
    part.direction_PVD[0].lerp_(p_VN @ unit_ND, share_V[:, None])
    part.peak_PV[0] = peak_V
    part.count_P[0] += images


def merge(a: SoftmaxState, b: SoftmaxState) -> SoftmaxState:
    """The state of the images of `a` and `b` together: associative, and commutative up to rounding.

    Raises
    ------
    ValueError
        If the states differ in partitions, voxels, dimension or number of nearest images.
    """
    if a.direction_PVD.shape != b.direction_PVD.shape or a.nearest_PVk.shape != b.nearest_PVk.shape:
        raise ValueError(
            f"states differ: {tuple(a.direction_PVD.shape)} and {tuple(b.direction_PVD.shape)} (partitions, voxels, dimension),"
            f" {a.nearest_PVk.shape[-1]} and {b.nearest_PVk.shape[-1]} nearest images"
        )
    return _combine([a, b])


def _combine(states: list[SoftmaxState]) -> SoftmaxState:
    """Merge states of equal shapes, relative to their largest peaks."""
    peak_PV = torch.stack([state.peak_PV for state in states]).amax(0)
    kept = [torch.where(state.count_P[:, None] > 0, torch.exp(state.peak_PV - peak_PV), 0.0) for state in states]
    mass_PV = torch.stack([state.mass_PV * factor for state, factor in zip(states, kept, strict=True)]).sum(0)
    total_PV = torch.where(mass_PV > 0, mass_PV, 1.0)
    shares = [state.mass_PV * factor / total_PV for state, factor in zip(states, kept, strict=True)]
    weighed = list(zip(states, shares, strict=True))
    keys = torch.cat([state.nearest_PVk for state in states], dim=2)
    return SoftmaxState(
        count_P=torch.stack([state.count_P for state in states]).sum(0),
        peak_PV=peak_PV,
        mass_PV=mass_PV,
        square_PV=torch.stack([state.square_PV * factor**2 for state, factor in zip(states, kept, strict=True)]).sum(0),
        norm_PV=torch.stack([state.norm_PV * share for state, share in weighed]).sum(0),
        direction_PVD=torch.stack([state.direction_PVD * share[..., None] for state, share in weighed]).sum(0),
        nearest_PVk=torch.topk(keys, states[0].nearest_PVk.shape[2], dim=2).values,
    )


def finish(state: SoftmaxState, directions_VD: Tensor) -> Projection:
    """Projected embeddings of every partition and, as last row, of the whole bank.

    Parameters
    ----------
    state : SoftmaxState
        All images added.
    directions_VD : Tensor of shape (V, D), float32
        The directions given to `update`, for `cos_before_after`.

    Returns
    -------
    Projection
        With P = partitions + 1 rows. Rows of an empty partition are NaN, their indices -1, their count 0.
    """
    parts = [_partition(state, p) for p in range(len(state.count_P))]
    rows = [*parts, _combine(parts)]
    whole = SoftmaxState(**{f.name: torch.cat([getattr(row, f.name) for row in rows]) for f in fields(SoftmaxState)})
    filled_P1 = whole.count_P[:, None] > 0
    unit_PVD = torch.nn.functional.normalize(whole.direction_PVD, dim=-1)
    embedding_PVD = torch.where(filled_P1, whole.norm_PV, torch.nan)[..., None] * unit_PVD
    nearest_cos_PVk, nearest_index_PVk = decode(whole.nearest_PVk)
    return Projection(
        embedding_PVD=embedding_PVD,
        n_eff_PV=torch.where(filled_P1, whole.mass_PV**2 / whole.square_PV, torch.nan),
        cos_before_after_PV=cosine(directions_VD, embedding_PVD),
        bank_agreement_PV=_agreement(embedding_PVD, whole.count_P[:-1] > 0),
        nearest_index_PVk=nearest_index_PVk,
        nearest_cos_PVk=nearest_cos_PVk,
        count_P=whole.count_P,
    )


def _partition(state: SoftmaxState, partition: int) -> SoftmaxState:
    return SoftmaxState(**{f.name: getattr(state, f.name)[partition : partition + 1] for f in fields(SoftmaxState)})


def _agreement(embedding_PVD: Tensor, filled_P: Tensor) -> Tensor:
    """See `Projection.bank_agreement_PV`. METHOD: two half-banks agree at .58 to .97 only, so it is published per voxel."""
    with_whole_PV = cosine(embedding_PVD[:-1], embedding_PVD[-1])
    parts_QVD = embedding_PVD[:-1][filled_P]
    first, second = torch.triu_indices(len(parts_QVD), len(parts_QVD), offset=1, device=embedding_PVD.device)
    return torch.cat([with_whole_PV, cosine(parts_QVD[first], parts_QVD[second]).mean(0, keepdim=True)])
