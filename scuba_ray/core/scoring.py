"""How well sentences predict held-out responses: rank correlations of many captions with many voxels, and predicted drives.

METHOD sections 6 and 7: a caption's predicted response to an image is the similarity of caption and image in a judge's space; it
is scored by Spearman's correlation with the measured response over images that took no part in fitting.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CELLS = 1 << 24
"""Cells of working memory, float32."""


def centred_ranks(values_NS: Tensor) -> Tensor:
    """Unit rows of centred ranks: the product of two such rows is Spearman's correlation.

    Parameters
    ----------
    values_NS : Tensor of shape (N, S)
        One row per caption or voxel, S images.

    Returns
    -------
    Tensor of shape (N, S), float32
        Ties share their mean rank. NaN in rows that are constant (or of fewer than two images): they have no correlation.
    """
    order_NS = values_NS.argsort(dim=1, stable=True)
    sorted_NS = values_NS.gather(1, order_NS)
    images = values_NS.shape[1]
    place_S = torch.arange(images, device=values_NS.device, dtype=torch.float64).expand_as(sorted_NS)
    starts_NS = torch.ones_like(sorted_NS, dtype=torch.bool)
    starts_NS[:, 1:] = sorted_NS[:, 1:] != sorted_NS[:, :-1]
    group_NS = starts_NS.cumsum(1) - 1
    total_NS = torch.zeros_like(place_S).scatter_add_(1, group_NS, place_S.contiguous())
    count_NS = torch.zeros_like(place_S).scatter_add_(1, group_NS, torch.ones_like(place_S))
    mean_NS = (total_NS / count_NS.clamp(min=1)).gather(1, group_NS)
    rank_NS = torch.empty_like(mean_NS).scatter_(1, order_NS, mean_NS) - (images - 1) / 2
    length_N1 = torch.linalg.vector_norm(rank_NS, dim=1, keepdim=True)
    return torch.where(length_N1 > 0, rank_NS / torch.where(length_N1 > 0, length_N1, 1.0), torch.nan).float()


def caption_scores(text_CD: Tensor, image_SD: Tensor, response_SV: Tensor, pairs_N2: Tensor) -> Tensor:
    """Spearman's correlation, over held-out images, of a caption's similarity to the image with a voxel's measured response.

    Parameters
    ----------
    text_CD : Tensor of shape (C, D), float32
        Unit embeddings of different captions.
    image_SD : Tensor of shape (S, D), float32
        Unit embeddings of the images, in the same space.
    response_SV : Tensor of shape (S, V)
        Measured responses.
    pairs_N2 : Tensor of shape (N, 2), int64
        Which caption is scored on which voxel: rows of (c, v).

    Returns
    -------
    Tensor of shape (N,), float32
        NaN where a voxel's responses or a caption's similarities are constant. Memory: (C + V) * S * 4 bytes and 64 MiB.
    """
    captions_CS = centred_ranks(text_CD @ image_SD.T)
    voxels_VS = centred_ranks(response_SV.T)
    step = max(1, _CELLS // max(1, image_SD.shape[0]))
    return torch.cat(
        [(captions_CS[part_N2[:, 0]] * voxels_VS[part_N2[:, 1]]).sum(1).clamp(-1, 1) for part_N2 in torch.split(pairs_N2, step)]
        or [torch.empty(0)]
    )


def drives(weight_VD: Tensor, text_CD: Tensor, pairs_N2: Tensor) -> Tensor:
    """Predicted response of a voxel to a caption, w . t with t the caption's unit text embedding; bias left out.

    Parameters
    ----------
    weight_VD : Tensor of shape (V, D)
    text_CD : Tensor of shape (C, D)
        Unit rows.
    pairs_N2 : Tensor of shape (N, 2), int64
        Rows of (c, v).

    Returns
    -------
    Tensor of shape (N,), in units of the responses the weights were fitted to (z-scores)
    """
    step = max(1, _CELLS // max(1, weight_VD.shape[1]))
    found = [(text_CD[part_N2[:, 0]] * weight_VD[part_N2[:, 1]]).sum(1) for part_N2 in torch.split(pairs_N2, step)]
    return torch.cat(found or [torch.empty(0)])


def drive_percentiles(weight_VD: Tensor, image_SD: Tensor, text_CD: Tensor, pairs_N2: Tensor) -> Tensor:
    """Where a caption's predicted drive lies among those of natural images, 0 to 100.

    Texts and images lie apart in a joint space (the modality gap), so that any text drives a voxel less than any image. Both
    are therefore taken relative to the mean of their own kind: w . (t - mean t) among the w . (x - mean x).

    Parameters
    ----------
    weight_VD : Tensor of shape (V, D)
    image_SD, text_CD : Tensor of shape (S, D) and (C, D)
        Unit rows; the captions are all those that the subject's voxels have, so that their mean stands for texts.
    pairs_N2 : Tensor of shape (N, 2), int64
        Rows of (c, v).

    Returns
    -------
    Tensor of shape (N,), float32
        Ties count half.
    """
    drive_VS = (weight_VD @ (image_SD - image_SD.mean(0)).T).sort(dim=1).values
    drive_N1 = drives(weight_VD, text_CD - text_CD.mean(0), pairs_N2)[:, None].contiguous()
    step = max(1, _CELLS // max(1, image_SD.shape[0]))
    found = []
    for part_N2, part_N1 in zip(torch.split(pairs_N2, step), torch.split(drive_N1, step), strict=True):
        found.append(percentile_among(drive_VS[part_N2[:, 1]], part_N1)[:, 0])
    return torch.cat(found or [torch.empty(0)])


def percentile_among(sorted_S: Tensor, values_N: Tensor) -> Tensor:
    """Share of sorted values below each value, 0 to 100, float32; ties count half.

    Parameters
    ----------
    sorted_S : Tensor of shape (S,) or (M, S)
        Rising along the last axis, S > 0.
    values_N : Tensor of shape (N,) or (M, N)
    """
    below_N, upto_N = (torch.searchsorted(sorted_S, values_N, right=right) for right in (False, True))
    return 100 * (below_N + upto_N).float() / (2 * sorted_S.shape[-1])
