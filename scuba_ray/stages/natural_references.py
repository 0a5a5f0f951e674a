"""Natural references of made pictures: of a subject's own stimuli those that drove a target's voxels most, as measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import NATURAL_TOP_1_PERCENT, NATURAL_TOP_100

BLOCK = 512
"""Voxels whose responses are read at once."""


def top_stimuli(measured_S: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.int64]]:
    """Places of the most driving stimuli by method: a hundred of them (or as many as there are), and one in a hundred.

    The most driving one comes first; of equal ones the first.
    """
    order_S = np.argsort(-measured_S, kind="stable")
    return {NATURAL_TOP_100: order_S[:100], NATURAL_TOP_1_PERCENT: order_S[: math.ceil(len(order_S) / 100)]}


def measured_means(run: RunFolder, subject: str, voxels: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.float64]:
    """Measured mean response of each target's voxels to the subject's stimuli, in z-scores, repeats averaged: as it was fitted.

    Training and test stimuli alike: nothing is fitted to them here. Blocks without a voxel of any target are not read.

    Parameters
    ----------
    run : RunFolder
    subject : str
        Unit of the table `responses`.
    voxels : sequence of arrays
        Ids of each target's voxels; a target without any gets NaN.

    Returns
    -------
    array of shape (T, S), float64
        In the order of the data set's stimuli. Memory meanwhile: `BLOCK` * S * 4 bytes.
    """
    id_V = run.read("responses", key=subject, columns=["voxel_id"])["voxel_id"].to_numpy()
    wanted_V = np.isin(id_V, np.concatenate(voxels))
    total_TS: npt.NDArray[np.float64] | None = None
    for start in range(0, len(id_V), BLOCK):
        stop = min(start + BLOCK, len(id_V))
        if total_TS is not None and not wanted_V[start:stop].any():
            continue
        response_VS = matrix(run.slice("responses", subject, start, stop, columns=("responses",))["responses"])
        total_TS = np.zeros((len(voxels), response_VS.shape[1])) if total_TS is None else total_TS
        for target, ids in enumerate(voxels):
            total_TS[target] += response_VS[np.isin(id_V[start:stop], ids)].sum(axis=0, dtype=np.float64)
    assert total_TS is not None, "a finished table has voxels"
    with np.errstate(invalid="ignore"):
        means_TS: npt.NDArray[np.float64] = total_TS / np.array([[len(ids)] for ids in voxels])
    return means_TS
