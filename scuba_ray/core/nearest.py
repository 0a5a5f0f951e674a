"""The k best-scoring images per voxel, kept while tiles of scores stream by.

A tile is not sorted: its maxima over blocks of columns are compared with the k-th score held so far, and only blocks that can
hold a better image are opened. What is kept are keys, one integer for score and image index together, ordered by score
(falling), then by index (rising). No two are equal, so equal scores come out the same however the images were cut into tiles,
or in which order the tiles came.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 16
"""Columns per block. A block is the columns {b, b + n/16, ...}: strided, so that the maximum runs along memory."""
SPARE = 8
"""Candidates looked at beyond k, so that a few ties with the k-th need no second look."""
LARGEST_INDEX = 2**32 - 1
"""Image indices take the lower half of a key."""
ABSENT = torch.iinfo(torch.int64).min
"""The key of no image."""


def encode(score: Tensor, index: Tensor) -> Tensor:
    """Keys that sort as (score rising, index falling).

    Parameters
    ----------
    score : Tensor, float32
    index : Tensor of the same shape, int64
        From 0 to `LARGEST_INDEX`; -1 where there is no image.
    """
    bits = (score + 0.0).view(torch.int32)  # + 0.0: minus zero is zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # floats of one sign sort as their bits, negative ones backwards
    return torch.where(index >= 0, (ordered.long() << 32) | (LARGEST_INDEX - index), ABSENT)


def decode(key: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (float32, NaN where there is no image) and indices (int64, -1) of keys."""
    ordered = (key >> 32).int()
    score = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    there = key != ABSENT
    return torch.where(there, score, torch.nan), torch.where(there, LARGEST_INDEX - (key & LARGEST_INDEX), -1)


def block_maxima(scores_VN: Tensor) -> Tensor:
    """Maximum of every block of `BLOCK` strided columns.

    Parameters
    ----------
    scores_VN : Tensor of shape (V, N)
        N a multiple of `BLOCK`.

    Returns
    -------
    Tensor of shape (V, N / BLOCK)
    """
    voxels, columns = scores_VN.shape
    return scores_VN.view(voxels, BLOCK, columns // BLOCK).amax(1)


def add_tile(key_Vk: Tensor, scores_VN: Tensor, maxima_VM: Tensor, column_index_N: Tensor) -> Tensor:
    """Merge one tile of scores into the k best so far.

    Parameters
    ----------
    key_Vk : Tensor of shape (V, k), int64
        Best so far, falling.
    scores_VN : Tensor of shape (V, N)
        Scores of the tile, -inf in columns that hold no image. N a multiple of `BLOCK`.
    maxima_VM : Tensor of shape (V, N / BLOCK)
        `block_maxima(scores_VN)`.
    column_index_N : Tensor of shape (N,), int64
        Image index of every column, -1 where there is none.

    Returns
    -------
    Tensor of shape (V, k), int64
    """
    k, blocks = key_Vk.shape[1], maxima_VM.shape[1]
    worst_V = decode(key_Vk[:, -1])[0].nan_to_num(nan=-torch.inf)
    block_Vb = _at_least(maxima_VM, worst_V, k)
    if block_Vb.shape[1] == 0:
        return key_Vk
    column_VC = (block_Vb[:, None, :] + blocks * torch.arange(BLOCK, device=block_Vb.device)[:, None]).flatten(1)
    candidates_VC = scores_VN.gather(1, column_VC)
    chosen_Vc = _at_least(candidates_VC, worst_V, k)
    key_Vc = encode(candidates_VC.gather(1, chosen_Vc), column_index_N[column_VC.gather(1, chosen_Vc)])
    return torch.topk(torch.cat([key_Vk, key_Vc], dim=1), k, dim=1).values


def _at_least(score_VC: Tensor, floor_V: Tensor, k: int) -> Tensor:
    """Columns, in any order and a few too many, among which are the k largest of each row that reach its floor, with all ties.

    Used on block maxima too: k block maxima are k images, so a block below the k-th largest maximum holds none of the k best.
    """
    looked_at = min(k + SPARE, score_VC.shape[1])
    value_Vc, column_Vc = torch.topk(score_VC, looked_at, dim=1)
    bound_V = torch.maximum(floor_V, value_Vc[:, k - 1]) if looked_at >= k else floor_V
    needed = int((value_Vc >= bound_V[:, None]).sum(1).max())
    if needed < looked_at or looked_at == score_VC.shape[1]:
        return column_Vc[:, :needed]
    needed = int((score_VC >= bound_V[:, None]).sum(1).max())  # more ties than were spared for
    return torch.topk(score_VC, needed, dim=1).indices
