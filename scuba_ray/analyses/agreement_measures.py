"""How much regions of several subjects agree, in arrays: noun distributions, mean embeddings, predicted responses.

Shapes: `R` regions, `V` captioned voxels of a subject, `W` words, `D` embedding, `S` test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sayings:
    """What the captioned voxels of one subject say."""

    member_RV: npt.NDArray[np.bool_]
    """Whether a voxel belongs to a region; it may belong to several."""
    word_voxel_N: npt.NDArray[np.int64]
    """Voxel of each noun, and"""
    word_N: npt.NDArray[np.int64]
    """its number in the vocabulary all subjects share."""
    unit_VD: npt.NDArray[np.float32]
    """Unit projected embeddings."""
    text_VD: npt.NDArray[np.float32]
    """Unit embeddings of the captions, by the backbone's text tower."""

    def shuffled(self, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Membership with voxels permuted over regions: region sizes and their overlap stay."""
        return self.member_RV[:, generator.permutation(self.member_RV.shape[1])]

    def nouns(self, member_RV: npt.NDArray[np.bool_], words: int) -> Floats:
        """Share of each word among the nouns of a region's captions, (R, W); zeros where it has none."""
        counts = [np.bincount(self.word_N, weights=row[self.word_voxel_N], minlength=words) for row in member_RV]
        count_RW = np.array(counts).reshape(len(member_RV), words)
        shares: Floats = count_RW / np.maximum(count_RW.sum(1, keepdims=True), 1)
        return shares

    def direction(self, member_RV: npt.NDArray[np.bool_]) -> Floats:
        """Where a region's mean unit projected embedding lies from that of all voxels: unit (R, D), zeros without a voxel."""
        count_R1 = member_RV.sum(1, keepdims=True)
        mean_RD = (member_RV.astype(np.float32) @ self.unit_VD) / np.maximum(count_R1, 1)
        return unit(np.where(count_R1 > 0, mean_RD - self.unit_VD.mean(0), 0))

    def profile(self, kind: str, member_RV: npt.NDArray[np.bool_], words: int) -> Floats:
        """What a measure compares, one row per region."""
        return self.nouns(member_RV, words) if kind == "nouns" else self.direction(member_RV)


def unit(rows_ND: npt.NDArray[np.floating]) -> Floats:
    """Rows over their L2 norms; zeros stay zero."""
    norm_N1 = np.linalg.norm(rows_ND, axis=-1, keepdims=True)
    scaled: Floats = rows_ND / np.where(norm_N1 > 0, norm_N1, 1).astype(np.float64)
    return scaled


def noun_overlap(one: Floats, two: Floats) -> Floats:
    """1 - Jensen-Shannon divergence in bits of distributions over the last axis: 1 if equal, 0 if nothing is shared.

        JSD(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2

    Source: Lin 1991. NaN where either is no distribution (a region without nouns).
    """
    divergence = _entropy((one + two) / 2) - (_entropy(one) + _entropy(two)) / 2
    return np.where((one.sum(-1) > 0) & (two.sum(-1) > 0), 1 - divergence, np.nan)


def _entropy(share: Floats) -> Floats:
    """Shannon entropy over the last axis, bits."""
    logarithm = np.log2(share, out=np.zeros_like(share), where=share > 0)
    entropy: Floats = -(share * logarithm).sum(-1)
    return entropy


def cosine(one: Floats, two: Floats) -> Floats:
    """Product of unit rows over the last axis; NaN where either is zero."""
    there = (one != 0).any(-1) & (two != 0).any(-1)
    return np.where(there, (one * two).sum(-1), np.nan)


def pooled_text(others: Sequence[Sayings], members: Sequence[npt.NDArray[np.bool_]]) -> Floats:
    """Direction of the mean caption embedding of each region over the voxels of several subjects, (R, D)."""
    total = np.sum([member.astype(np.float32) @ one.text_VD for one, member in zip(others, members, strict=True)], axis=0)
    return unit(total)


def gains(all_RR: Floats) -> tuple[Floats, Floats]:
    """Each region's value beyond the mean of its values with other regions (R,), and that mean (R,); NaN where there is none."""
    off_RR = np.where(np.eye(len(all_RR), dtype=bool), np.nan, all_RR)
    known_R = (~np.isnan(off_RR)).sum(1)
    others_R = np.where(known_R > 0, np.nansum(off_RR, 1) / np.maximum(known_R, 1), np.nan)
    return np.diagonal(all_RR) - others_R, others_R


def spearman(measured_RS: Floats, predicted_QS: Floats) -> Floats:
    """Rank correlation over images of every region's responses with every prediction, (R, Q); NaN where either is constant."""
    one, two = (unit(_centred_ranks(values)) for values in (measured_RS, predicted_QS))
    correlation = one @ two.T
    constant = (one == 0).all(1)[:, None] | (two == 0).all(1)[None]
    return np.where(constant, np.nan, correlation)


def _centred_ranks(values_NS: Floats) -> Floats:
    """Ranks along the last axis, ties by their mean, minus the mean rank."""
    ranks = np.zeros(values_NS.shape)
    for row, values in enumerate(values_NS):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks[row] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks - ranks.mean(1, keepdims=True) if values_NS.shape[1] else ranks
