"""The k best-scoring images per voxel, kept while tiles of scores stream by.

A new tile is not sorted: its maxima over blocks of columns are compared with the k-th score held so far, and only blocks that
can hold a better image are opened. Order is by score, then by image index, so equal scores come out the same however the
images were cut into tiles or in which order the tiles came.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 16
"""Columns per block. A block is the columns {b, b + n/16, ...}: strided, so that the maximum runs along memory."""


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


def best(score_VC: Tensor, index_VC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best columns of each row, by score (falling), then by index (rising).

    Parameters
    ----------
    score_VC, index_VC : Tensor of shape (V, C)
        Candidates, in any order; an absent one has score -inf and index -1. C must be at least k.

    Returns
    -------
    score_Vk, index_Vk : Tensor of shape (V, k)
    """
    score, position = _largest(score_VC, k)
    index = index_VC.gather(1, position)
    index, by_index = index.sort(dim=1)
    score, by_score = score.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    return score[:, :k].contiguous(), index.gather(1, by_score)[:, :k].contiguous()


def _largest(score_VC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the k largest of each row and whatever ties with the k-th, in any order."""
    if score_VC.shape[1] <= k:
        return score_VC, torch.arange(score_VC.shape[1], device=score_VC.device).expand_as(score_VC)
    value, column = torch.topk(score_VC, k + 1, dim=1)
    tied = (value[:, k - 1] == value[:, k]) & torch.isfinite(value[:, k])
    if not bool(tied.any()):
        return value[:, :k], column[:, :k]
    keep = int((score_VC >= value[:, k - 1, None])[tied].sum(1).max())
    value, column = torch.topk(score_VC, keep, dim=1)
    return value, column


def add_tile(
    score_Vk: Tensor, index_Vk: Tensor, scores_VN: Tensor, maxima_VM: Tensor, column_index_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Merge one tile of scores into the k best so far.

    Parameters
    ----------
    score_Vk, index_Vk : Tensor of shape (V, k)
        Best so far, as `best` returns them.
    scores_VN : Tensor of shape (V, N)
        Scores of the tile, -inf in columns that hold no image. N a multiple of `BLOCK`.
    maxima_VM : Tensor of shape (V, N / BLOCK)
        `block_maxima(scores_VN)`.
    column_index_N : Tensor of shape (N,), int64
        Image index of every column, -1 where there is none.

    Returns
    -------
    score_Vk, index_Vk : Tensor of shape (V, k)
    """
    k, blocks = score_Vk.shape[1], maxima_VM.shape[1]
    bound_V = score_Vk[:, -1]
    opened = int((maxima_VM >= bound_V[:, None]).sum(1).max())
    if opened > k:  # k block maxima are k images: their smallest bounds the k-th score from below
        bound_V = torch.maximum(bound_V, torch.topk(maxima_VM, k, dim=1).values[:, -1])
        opened = int((maxima_VM >= bound_V[:, None]).sum(1).max())
    if opened == 0:
        return score_Vk, index_Vk
    block_Vc = torch.topk(maxima_VM, opened, dim=1, sorted=False).indices
    column_VC = (block_Vc[:, None, :] + blocks * torch.arange(BLOCK, device=block_Vc.device)[:, None]).flatten(1)
    value_VC, opened_VC = _largest(scores_VN.gather(1, column_VC), k)
    index_VC = column_index_N[column_VC.gather(1, opened_VC)]
    return best(torch.cat([score_Vk, value_VC], dim=1), torch.cat([index_Vk, index_VC], dim=1), k)
