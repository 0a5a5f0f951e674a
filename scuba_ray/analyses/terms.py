"""Which words belong to which region: counts, tf-idf contrast, and an exact permutation test. For nouns, verbs and relations.

A voxel *says* a term where `spoken.agreed` finds it. Of V voxels n_r belong to region r; k_rw of these, and K_w of all, say w.

    share     tf_rw = k_rw / n_r
    contrast  log((1 + V) / (1 + K_w)) * (tf_rw - mean tf_sw over the other regions s that have voxels)
    p         P(X >= k_rw), X hypergeometric (V, K_w, n_r)

p is that of permuting voxels over regions: under a random permutation the count *is* hypergeometric, so nothing need be drawn.
q is the false-discovery rate over all regions and terms of a subject (Benjamini and Hochberg). Neighbouring voxels resemble each
other and their responses share noise, so p is too small by what they share: it ranks words and screens off what chance explains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.analyses.spoken import ALL, Spoken
from scuba_ray.core.statistics import benjamini_hochberg

Floats = npt.NDArray[np.float64]

TERMS = [
    ("roi", pa.string()),
    ("permuted", pa.bool_()),
    ("rank", pa.int32()),
    ("count", pa.int64()),
    ("voxels", pa.int64()),
    ("share", pa.float64()),
    ("expected", pa.float64()),
    ("contrast", pa.float64()),
    ("p", pa.float64()),
    ("q", pa.float64()),
    ("tagger", pa.string()),
    ("selection", pa.string()),
    ("note", pa.string()),
]
"""Columns of every table of terms. `rank` orders a region's terms by p, then contrast, 1 first. `count` of the region's `voxels`
say the term, `share` is their ratio and `expected` the share over all voxels, which is what permuted voxels come to. Rows with
`permuted` are the same of voxels permuted once over regions: a control. A region of which nothing can be said has one row with a
`note` and no term."""


def term_rows(one: Spoken, said: Sequence[set[str]], *, column: str, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of one subject: of all voxels, of each region, and of each region after permuting voxels.

    Parameters
    ----------
    one : Spoken
    said : sequence of set of str
        Terms of each of its voxels.
    column : str
        The terms' name in the table.
    seed : int
        Of the one permutation that is shown.
    """
    terms = sorted(set().union(*said))
    number = {term: index for index, term in enumerate(terms)}
    flat_N2 = np.array([(voxel, number[term]) for voxel, own in enumerate(said) for term in own], np.int64).reshape(-1, 2)
    yield from _all(one, terms, np.bincount(flat_N2[:, 1], minlength=len(terms)), column)
    for permuted in (False, True):
        member_RV = one.shuffled(seed) if permuted else one.member_RV
        for row in contrasts(one.rois, member_RV, terms, flat_N2, column):
            what = "these are its own captions' words, not a region's"
            if not (permuted and row[column] is None):  # a region without a voxel is said once
                note = one.note(row["voxels"], what)
                silent = "no captions agree on any" if note is None and row[column] is None else None
                yield {**one.key, "permuted": permuted, **row, "note": note or silent}


def _all(one: Spoken, terms: Sequence[str], count_W: npt.NDArray[np.int64], column: str) -> Iterator[dict[str, Any]]:
    voxels = len(one.voxel_ids)
    common: dict[str, Any] = {**one.key, "roi": ALL, "permuted": False, "voxels": voxels}
    note = one.note(voxels, "these are its own captions' words")
    if note is None and not one.rois:
        note = "this subject has no regions to contrast"
    if not terms:
        yield {**common, column: None, "note": note or "no captions agree on any"}
    for rank, index in enumerate(np.lexsort((np.arange(len(terms)), -count_W)), 1):
        share = count_W[index] / voxels
        figures = {"rank": rank, "count": int(count_W[index]), "share": share, "expected": share}
        yield {**common, column: terms[index], **figures, "note": note}


def contrasts(
    rois: Sequence[str],
    member_RV: npt.NDArray[np.bool_],
    terms: Sequence[str],
    flat_N2: npt.NDArray[np.int64],
    column: str,
) -> Iterator[dict[str, Any]]:
    """Figures of every region and each of its terms; a region that says nothing has one row whose term is null.

    Parameters
    ----------
    member_RV : array of bool of shape (R, V)
    flat_N2 : array of int64 of shape (N, 2)
        Voxel and term of everything that is said.
    """
    counted = [np.bincount(flat_N2[row[flat_N2[:, 0]], 1], minlength=len(terms)) for row in member_RV]
    count_RW = np.array(counted, np.int64).reshape(len(rois), len(terms))
    total_W = np.bincount(flat_N2[:, 1], minlength=len(terms))
    size_R = member_RV.sum(1)
    share_RW = count_RW / np.maximum(size_R, 1)[:, None]
    p_RW = tail(count_RW, total_W, size_R, member_RV.shape[1])
    q_RW = benjamini_hochberg(torch.from_numpy(p_RW).flatten()).numpy().reshape(p_RW.shape)
    contrast_RW = contrast(share_RW, size_R, total_W, member_RV.shape[1])
    for region, roi in enumerate(rois):
        here = {"roi": roi, "voxels": int(size_R[region])}
        found_W = np.flatnonzero(count_RW[region])
        if not len(found_W):
            yield {**here, column: None}
        order = np.lexsort((found_W, -np.nan_to_num(contrast_RW[region, found_W]), p_RW[region, found_W]))
        for rank, term in enumerate(found_W[order], 1):
            difference = contrast_RW[region, term]
            yield {
                **here,
                column: terms[term],
                "rank": rank,
                "count": int(count_RW[region, term]),
                "share": share_RW[region, term],
                "expected": total_W[term] / member_RV.shape[1],
                "contrast": None if np.isnan(difference) else difference,
                "p": p_RW[region, term],
                "q": float(q_RW[region, term]),
            }


def contrast(share_RW: Floats, size_R: npt.NDArray[np.int64], total_W: npt.NDArray[np.int64], voxels: int) -> Floats:
    """tf-idf of each region minus the mean over the other regions that have voxels, (R, W); NaN where there is no other."""
    there_R1 = (size_R > 0)[:, None]
    others_R1 = there_R1.sum() - there_R1
    others_RW = (share_RW.sum(0) - share_RW) / np.where(others_R1 > 0, others_R1, np.nan)
    inverse: Floats = np.log((1 + voxels) / (1 + total_W)) * (share_RW - others_RW)
    return inverse


def tail(count_RW: npt.NDArray[np.int64], total_W: npt.NDArray[np.int64], size_R: npt.NDArray[np.int64], voxels: int) -> Floats:
    """Exact p of permuting voxels over regions, (R, W): P(X >= count) of the hypergeometric distribution."""
    # scipy.stats takes a second to load
    from scipy.stats import hypergeom

    p_RW: Floats = np.minimum(hypergeom.sf(count_RW - 1, voxels, total_W, size_R[:, None]), 1.0)
    return p_RW
