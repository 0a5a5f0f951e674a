"""Sentences ranked by drive: the response that a voxel's own encoding model predicts to each (METHOD, section 7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from scuba_ray.core.scoring import drives
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.protocols import Backbone


def rank_by_drive(
    tower: Backbone, weight_ND: Tensor, sentences: Sequence[Collection[str]], device: str
) -> list[list[tuple[float, str]]]:
    """Rank sentences by w . t, with t the unit embedding of a sentence by the text tower the weights were fitted beside.

    Parameters
    ----------
    tower : Backbone
        Loaded.
    weight_ND : Tensor of shape (N, D)
        Weights of the voxel that each group of sentences is for.
    sentences : sequence of N collections of str
        Each group's different sentences.

    Returns
    -------
    list of N lists of (drive, sentence)
        Largest drive first, in units of the responses the weights were fitted to (z-scores); equal drives by alphabet, so that no
        run differs from another. Memory: different sentences * D * 4 bytes.
    """
    texts = sorted({text for group in sentences for text in group})
    place = {text: index for index, text in enumerate(texts)}
    pairs = [(place[text], row) for row, group in enumerate(sentences) for text in group]
    text_CD = unit_and_norm(tower.embed_texts(texts))[0].to(device)
    pairs_N2 = torch.tensor(pairs, dtype=torch.int64, device=device).view(-1, 2)
    drive_N = drives(weight_ND.to(device), text_CD, pairs_N2).tolist()
    ranked: list[list[tuple[float, str]]] = [[] for _ in sentences]
    for (text, row), drive in zip(pairs, drive_N, strict=True):
        ranked[row].append((drive, texts[text]))
    return [sorted(group, key=lambda one: (-one[0], one[1])) for group in ranked]
