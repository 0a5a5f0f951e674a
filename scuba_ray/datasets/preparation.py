"""From single trials to what a fit reads: standardised per session, repeats averaged, ceilings and bad voxels stated.

METHOD section 1. The published code standardises a session with all its trials, test trials included; here a session's mean and
deviation come from its *training* trials alone and are applied to its test trials, so nothing of the test set enters a fit.

A trial is missing where it is NaN or infinite, or where the voxel does not vary over the session's training trials (or there are
none): it has no z-score, counts as 0, the session's mean, and is counted. Everything here is a function of some voxels: any cut
gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from scuba_ray.core.statistics import noise_ceiling_from_ncsnr, noise_ceiling_from_repeats
from scuba_ray.protocols import SubjectDataset

EPSILON = 1e-6
"""Added to a session's deviation before dividing by it (published value)."""
BAD_SHARE = 0.1
"""A voxel is marked `bad` when more than this share of its trials is missing."""
_TILE = 64
"""Voxels that are computed together, in copies and in float64."""


@dataclass(frozen=True)
class Trials:
    """Which stimulus each trial showed, and when."""

    session_T: npt.NDArray[np.int64]
    stimulus_T: npt.NDArray[np.int64]
    """Row of `dataset.stimuli()`."""
    train_S: npt.NDArray[np.bool_]
    """The training stimuli; the others are test stimuli."""

    @property
    def sessions(self) -> list[int]:
        """The sessions, in rising order."""
        return [int(session) for session in np.unique(self.session_T)]

    @property
    def repeats_S(self) -> npt.NDArray[np.int64]:
        """Trials of each stimulus."""
        return np.bincount(self.stimulus_T, minlength=len(self.train_S))


def trials_of(dataset: SubjectDataset) -> Trials:
    """The trials of a data set, as arrays."""
    stimuli, trials = dataset.stimuli(), dataset.trials()
    return Trials(
        session_T=np.asarray(trials["session"], dtype=np.int64),
        stimulus_T=np.asarray(pc.index_in(trials["stimulus_id"], stimuli["stimulus_id"].combine_chunks()), dtype=np.int64),
        train_S=np.asarray(pc.equal(stimuli["split"], "train")),
    )


@dataclass(frozen=True)
class Standardised:
    """Some voxels in one session."""

    Z_VT: npt.NDArray[np.float32]
    """z-scores, 0 where a trial is missing."""
    bad_trials_V: npt.NDArray[np.int32]
    """Trials that are missing."""
    varies_V: npt.NDArray[np.bool_]
    """Whether the training trials differ."""
    training_trials_V: npt.NDArray[np.int32]
    """Training trials that are neither NaN nor infinite."""


def standardise(X_VT: npt.NDArray[np.floating], training_T: npt.NDArray[np.bool_]) -> Standardised:
    """z-score one session's trials, per voxel, by mean and deviation of its training trials.

        z = (x - mean_training) / (deviation_training + EPSILON)

    Parameters
    ----------
    X_VT : array of shape (V, T_s)
        Some voxels' trials. Computed in float64, a few voxels at a time.
    training_T : array of bool of shape (T_s,)
    """
    tiles = [_standardised(X_VT[start : start + _TILE], training_T) for start in range(0, len(X_VT), _TILE)]
    return Standardised(
        Z_VT=np.concatenate([tile.Z_VT for tile in tiles]),
        bad_trials_V=np.concatenate([tile.bad_trials_V for tile in tiles]),
        varies_V=np.concatenate([tile.varies_V for tile in tiles]),
        training_trials_V=np.concatenate([tile.training_trials_V for tile in tiles]),
    )


def _standardised(X_VT: npt.NDArray[np.floating], training_T: npt.NDArray[np.bool_]) -> Standardised:
    block = X_VT.astype(np.float64)
    missing = ~np.isfinite(block)
    training = training_T & ~missing
    count_V1 = training.sum(1, keepdims=True)
    block[missing] = 0
    mean_V1 = np.where(training, block, 0).sum(1, keepdims=True) / np.maximum(count_V1, 1)
    variance_V1 = np.where(training, (block - mean_V1) ** 2, 0).sum(1, keepdims=True) / np.maximum(count_V1, 1)
    varies_V = np.where(training, block, -np.inf).max(1) > np.where(training, block, np.inf).min(1)
    missing |= ~varies_V[:, None]
    Z_VT = np.where(missing, 0, (block - mean_V1) / (np.sqrt(variance_V1) + EPSILON)).astype(np.float32)
    return Standardised(Z_VT, missing.sum(1, dtype=np.int32), varies_V, count_V1[:, 0].astype(np.int32))


def statuses(
    bad_trials_V: npt.NDArray[np.integer], trials: int, varies_V: npt.NDArray[np.bool_], seen_V: npt.NDArray[np.bool_]
) -> list[str]:
    """What to say of voxels after all their sessions.

    Parameters
    ----------
    bad_trials_V : array of shape (V,)
        Missing ones of all the `trials`.
    varies_V, seen_V : array of bool of shape (V,)
        Whether the training trials of any session differ; whether there are any.

    Returns
    -------
    list of str
        `ok`, `constant` (its training trials differ in no session) or `bad` (more than `BAD_SHARE` of its trials are missing).
    """
    names_V = np.where(seen_V & ~varies_V, "constant", np.where(bad_trials_V > BAD_SHARE * trials, "bad", "ok"))
    names: list[str] = names_V.tolist()
    return names


def averaged(Z_VT: npt.NDArray[np.float32], trials: Trials) -> npt.NDArray[np.float32]:
    """Mean over the repeats of each stimulus, (V, S)."""
    order_T = np.argsort(trials.stimulus_T, kind="stable")
    repeats_S = trials.repeats_S
    first_S = np.concatenate([[0], np.cumsum(repeats_S)[:-1]])
    Y_VS = np.empty((len(Z_VT), len(repeats_S)), np.float32)
    for start in range(0, len(Z_VT), _TILE):
        np.add.reduceat(Z_VT[start : start + _TILE, order_T], first_S, axis=1, out=Y_VS[start : start + _TILE])
    Y_VS /= repeats_S.astype(np.float32)
    return Y_VS


def noise_ceilings(
    Z_VT: npt.NDArray[np.float32], ncsnr_V: npt.NDArray[np.float32], trials: Trials, status: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Share (V,) of the variance of averaged test responses that is signal; NaN where it cannot be known or is of no use.

    From the data set's own ncsnr where it is not NaN, else from the repeats of all stimuli; either way it is the ceiling of the
    *test* responses, each averaged over its repeats (of all responses where there is no test stimulus). Without repeats, and
    where the status is not `ok`, it is NaN.
    """
    repeats_S, train_S = trials.repeats_S, trials.train_S
    scored = torch.from_numpy(repeats_S if train_S.all() else repeats_S[~train_S])
    ceiling_V: npt.NDArray[np.float32] = noise_ceiling_from_ncsnr(torch.from_numpy(ncsnr_V), scored).numpy()
    unknown = np.flatnonzero(np.isnan(ncsnr_V))
    stimulus = torch.from_numpy(trials.stimulus_T)
    for start in range(0, len(unknown), _TILE):
        tile = unknown[start : start + _TILE]
        ceiling_V[tile] = noise_ceiling_from_repeats(torch.from_numpy(Z_VT[tile].T), stimulus, scored).numpy()
    ceiling_V[[one != "ok" for one in status]] = np.nan
    return ceiling_V
