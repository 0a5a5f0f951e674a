"""Projection of voxel weights onto natural images: BrainSCUBA section 3.2, as streaming softmax states.

A voxel's direction v = w / |w| (bias and gain play no part) attends to K bank images with unit embeddings u_j and norms n_j:

    p_j = softmax_j(beta v.u_j),   direction = normalise(sum_j p_j u_j),   norm = sum_j p_j n_j,   e = norm * direction

Images stream by in tiles and V x K is never held; the sums are kept in states that merge (`core.states`), so that the projections
on each partition and on the whole bank, the effective number of images (sum e)^2 / sum e^2, the nearest images and the agreement
of parts of the bank come out of one pass. The published loop takes four voxels at a time over the whole bank, once per draw.

Arithmetic of both products (`scores`; the softmax and all sums are float32 always). Measured on the CPU against the one-shot
formula in float64: 50,000 synthetic images (Gaussian, and of falling spectrum around a mean), D 512, beta 150, 512 directions,

    float32    1 - cosine <= 4e-11; norm 5e-6, n_eff 2e-5 relative; cosines of the nearest images 7e-7
    bfloat16   1 - cosine <= 3e-4, median 2e-5; norm 2e-3, n_eff 4 % relative; cosines of the nearest images 2e-3, of whose 64
               0.5 % are others
    tf32       not measured. Factors keep 10 bits of mantissa, so a cosine is off by 2^-10 at the very most: an eighth of bfloat16
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from scuba_ray.core.agreement import half_agreement, pair_agreement
from scuba_ray.core.nearest import BLOCK, LARGEST_INDEX, add_tile, block_maxima, decode
from scuba_ray.core.products import Arithmetic, arithmetic, factor, multiply
from scuba_ray.core.states import SoftmaxState, combine, empty_state, merge, partition_of
from scuba_ray.core.vectors import cosine, cosines_into

__all__ = ["Images", "Projection", "SoftmaxState", "attend", "empty_state", "finish", "merge", "update"]

ALIGN = 64
"""Scores are computed for a multiple of this many images (zeros fill up). A matrix product takes other code paths at ragged
edges, whose last bits differ; without them an image scores the same wherever it stands in a tile. A multiple of `BLOCK`."""
assert ALIGN % BLOCK == 0


@dataclass(frozen=True)
class Images:
    """Bank images as they are stored, sorted by partition."""

    embedding_KD: Tensor
    """Raw embeddings, any float type."""
    norm_K: Tensor
    """The norms that the projection averages, float32."""
    partition_K: Tensor
    index_K: Tensor
    """Global index of each image, int64."""


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
    half_agreement_V: Tensor
    """Mean cosine between the projections on two halves of the bank (`core.agreement`); NaN with fewer than two partitions."""
    nearest_index_PVk: Tensor
    nearest_cos_PVk: Tensor
    count_P: Tensor
    """Images in each partition and in the whole bank: 0 marks an empty one."""


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
    scores: Arithmetic = "float32",
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
    scores : str
        Arithmetic of both matrix products.

    Raises
    ------
    ValueError
        If shapes disagree, a partition is not one of the state's, or an image's index is beyond 2^32.
    """
    index_K = torch.arange(offset, offset + len(unit_KD), device=unit_KD.device)
    _check(state, directions_VD, Images(unit_KD, norm_K, partition_K, index_K))
    if (partition_K[1:] < partition_K[:-1]).any():
        order_K = partition_K.argsort(stable=True)
        unit_KD, norm_K, partition_K, index_K = (of[order_K] for of in (unit_KD, norm_K, partition_K, index_K))
    with arithmetic(scores, unit_KD.device):
        direction_VD, buffer_2n = factor(directions_VD, scores), _buffer([directions_VD], partition_K, tile)
        for partition, rows in _tiles(partition_K, tile):
            ready = _Tile(factor(unit_KD[rows], scores), norm_K[rows], index_K[rows])
            _add(partition_of(state, partition), direction_VD, ready, beta=beta, scores=scores, buffer_2n=buffer_2n)


def attend(
    states: Sequence[SoftmaxState],
    directions: Sequence[Tensor],
    images: Images,
    *,
    beta: float,
    tile: int = 8192,
    scores: Arithmetic = "float32",
) -> None:
    """Add stored images to several states, in place: each tile is brought to unit length once for all of them.

    Parameters
    ----------
    states, directions : sequence of SoftmaxState, sequence of Tensor of shape (V, D)
        As `update` takes one of each. A state is the same to the last bit whatever others it is updated with; one
        without voxels stays as it is.
    images : Images
        On the device of the states.
    beta, tile, scores
        As for `update`. Peak working memory is `tile * (2 * V + D) * 4` bytes with the largest V.

    Raises
    ------
    ValueError
        As `update`, or if the images are not sorted by partition.
    """
    for state, directions_VD in zip(states, directions, strict=True):
        _check(state, directions_VD, images)
    if (images.partition_K[1:] < images.partition_K[:-1]).any():
        raise ValueError("stored images must be sorted by partition")
    with arithmetic(scores, images.embedding_KD.device):
        asked = [(state, factor(one, scores)) for state, one in zip(states, directions, strict=True) if len(one)]
        buffer_2n = _buffer(directions, images.partition_K, tile)
        unit_nD = torch.empty(_width(images.partition_K, tile), images.embedding_KD.shape[1], device=buffer_2n.device)
        for partition, rows in _tiles(images.partition_K, tile):
            unit_ND = unit_nD[: rows.stop - rows.start].copy_(images.embedding_KD[rows])
            length_N = torch.linalg.vector_norm(unit_ND, dim=1)
            unit_ND /= torch.where(length_N > 0, length_N, 1.0)[:, None]
            ready = _Tile(factor(unit_ND, scores), images.norm_K[rows], images.index_K[rows])
            for state, direction_VD in asked:
                _add(partition_of(state, partition), direction_VD, ready, beta=beta, scores=scores, buffer_2n=buffer_2n)


def _check(state: SoftmaxState, directions_VD: Tensor, images: Images) -> None:
    partitions, voxels, dim = state.direction_PVD.shape
    embedding_KD, partition_K, index_K = images.embedding_KD, images.partition_K, images.index_K
    if directions_VD.shape != (voxels, dim):
        raise ValueError(f"directions must have shape {(voxels, dim)} as the state has, got {tuple(directions_VD.shape)}")
    if embedding_KD.ndim != 2 or embedding_KD.shape[1] != dim:
        raise ValueError(f"image embeddings must have shape (K, {dim}), got {tuple(embedding_KD.shape)}")
    if images.norm_K.shape != partition_K.shape or partition_K.shape != embedding_KD.shape[:1]:
        norms, of = len(images.norm_K), len(partition_K)
        raise ValueError(f"{len(embedding_KD)} images need as many norms and partitions, got {norms} and {of}")
    if len(partition_K) and not 0 <= int(partition_K.min()) <= int(partition_K.max()) < partitions:
        raise ValueError(f"partitions must lie in [0, {partitions}), got {int(partition_K.min())} to {int(partition_K.max())}")
    if len(index_K) and not 0 <= int(index_K.min()) <= int(index_K.max()) <= LARGEST_INDEX:
        raise ValueError(f"global image indices must lie in [0, 2^32), got {int(index_K.min())} to {int(index_K.max())}")


def _buffer(directions: Sequence[Tensor], partition_K: Tensor, tile: int) -> Tensor:
    """Room for the scores of the largest tile and their softmax."""
    width = _width(partition_K, tile)
    voxels = max((len(one) for one in directions), default=0)
    return torch.empty(2, voxels * (-(-width // ALIGN) * ALIGN), device=partition_K.device)


def _width(partition_K: Tensor, tile: int) -> int:
    """Images of the largest tile."""
    counts = torch.unique_consecutive(partition_K, return_counts=True)[1]
    return min(tile, int(counts.max())) if len(counts) else 0


def _tiles(partition_K: Tensor, tile: int) -> Iterator[tuple[int, slice]]:
    """Runs of at most `tile` rows of one partition, with that partition."""
    partitions, counts = torch.unique_consecutive(partition_K, return_counts=True)
    start = 0
    for partition, count in zip(partitions.tolist(), counts.tolist(), strict=True):
        for first in range(start, start + count, tile):
            yield partition, slice(first, min(first + tile, start + count))
        start += count


@dataclass(frozen=True)
class _Tile:
    """Images of one partition, ready to be scored."""

    unit_ND: Tensor
    """As `products.factor` made it."""
    norm_N: Tensor
    index_N: Tensor


def _add(
    part: SoftmaxState,
    directions_VD: Tensor,
    ready: _Tile,
    *,
    beta: float,
    scores: Arithmetic,
    buffer_2n: Tensor,
) -> None:
    """Add one tile to the state of its partition (a view of one row).

    Within a tile the softmax is the library's own, with p = e / Z and so Z = 1 / p_max. Passes over V x N are few on purpose:
    each is a round trip through memory and a wait for the slowest core.
    """
    voxels, images = len(directions_VD), len(ready.unit_ND)
    padded = -(-images // ALIGN) * ALIGN
    scores_VN, p_VN = buffer_2n[:, : voxels * padded].view(2, voxels, padded)
    cosines_into(directions_VD, ready.unit_ND, scores_VN, ALIGN)
    maxima_VM = block_maxima(scores_VN)
    index_N = torch.nn.functional.pad(ready.index_N, (0, padded - images), value=-1)
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
    part.norm_PV[0].lerp_(p_VN @ ready.norm_N, share_V)
    part.direction_PVD[0].lerp_(multiply(factor(p_VN, scores), ready.unit_ND), share_V[:, None])
    part.peak_PV[0] = peak_V
    part.count_P[0] += images


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
    parts = [partition_of(state, p) for p in range(len(state.count_P))]
    rows = [*parts, combine(parts)]
    whole = SoftmaxState(**{f.name: torch.cat([getattr(row, f.name) for row in rows]) for f in fields(SoftmaxState)})
    filled_P1 = whole.count_P[:, None] > 0
    unit_PVD = torch.nn.functional.normalize(whole.direction_PVD, dim=-1)
    embedding_PVD = torch.where(filled_P1, whole.norm_PV, torch.nan)[..., None] * unit_PVD
    parts_PVD, filled_P = embedding_PVD[:-1], state.count_P > 0
    nearest_cos_PVk, nearest_index_PVk = decode(whole.nearest_PVk)
    return Projection(
        embedding_PVD=embedding_PVD,
        n_eff_PV=torch.where(filled_P1, whole.mass_PV**2 / whole.square_PV, torch.nan),
        cos_before_after_PV=cosine(directions_VD, embedding_PVD),
        bank_agreement_PV=torch.cat([cosine(parts_PVD, embedding_PVD[-1]), pair_agreement(parts_PVD[filled_P])[None]]),
        half_agreement_V=half_agreement(state),
        nearest_index_PVk=nearest_index_PVk,
        nearest_cos_PVk=nearest_cos_PVk,
        count_P=whole.count_P,
    )
