"""From single trials to what a fit reads: standardised per session, repeats averaged, ceilings and bad voxels stated.

METHOD section 1. The published code standardises a session with all its trials, test trials included; here a session's mean and
deviation come from its *training* trials alone and are applied to its test trials, so nothing of the test set enters a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch

from scuba_ray.core.statistics import noise_ceiling_from_ncsnr, noise_ceiling_from_repeats
from scuba_ray.protocols import SubjectDataset

EPSILON = 1e-6
"""Added to a session's deviation before dividing by it (published value)."""
_TILE = 64
"""Voxels whose ceilings are estimated together, in float64."""
BAD_SHARE = 0.1
"""A voxel is marked `bad` when more than this share of its trials is missing."""


@dataclass(frozen=True)
class Prepared:
    """Responses of a run of voxels, one row per stimulus in the order of `dataset.stimuli()`.

    `status_V` is `ok`, `constant` (its training responses vary in no session: its row of `Y_SV` is 0) or `bad` (more than
    `BAD_SHARE` of its trials missing). A trial is missing where it is NaN or infinite, or where the voxel is constant over the
    session's training trials; it counts as 0, the session's mean, and is counted in `bad_trials_V`.
    """

    Y_SV: np.ndarray
    """(S, V) float32: standardised, repeats averaged."""
    train_S: np.ndarray
    """(S,) bool: the training stimuli; the others are test stimuli."""
    repeats_S: np.ndarray
    """(S,) int64: trials of each stimulus."""
    noise_ceiling_V: np.ndarray
    """(V,) float32: share of the averaged test responses' variance that is signal; NaN where it cannot be known."""
    bad_trials_V: np.ndarray
    """(V,) int32."""
    status_V: tuple[str, ...]


def prepare(dataset: SubjectDataset, start: int, stop: int) -> Prepared:
    """Read and prepare the voxels `[start, stop)`. Peak memory is about 2 * T * (stop - start) * 4 bytes.

    The noise ceiling comes from the data set's own ncsnr where it has one, else from the repeats of all its stimuli; either way
    it is the ceiling of the *test* responses, each averaged over its repeats (of all responses where there is no test stimulus).
    Without repeats it is NaN.
    """
    stimuli, trials = dataset.stimuli(), dataset.trials()
    train_S = np.asarray(pc.equal(stimuli["split"], "train"))
    stimulus_T = np.asarray(pc.index_in(trials["stimulus_id"], stimuli["stimulus_id"].combine_chunks()), dtype=np.int64)
    repeats_S = np.bincount(stimulus_T, minlength=len(stimuli))
    session_T = np.asarray(trials["session"])
    Z_TV = np.empty((len(trials), stop - start), np.float32)
    for session in np.unique(session_T):
        Z_TV[session_T == session] = dataset.read_session(int(session))[:, start:stop]
    bad_trials_V, status_V = standardise(Z_TV, session_T, train_S[stimulus_T])
    order_T = np.argsort(stimulus_T, kind="stable")
    first_S = np.concatenate([[0], np.cumsum(repeats_S)[:-1]])
    Y_SV = np.add.reduceat(Z_TV[order_T], first_S, axis=0) / repeats_S[:, None].astype(np.float32)
    scored_S = repeats_S if train_S.all() else repeats_S[~train_S]
    ncsnr_V = dataset.voxels()["ncsnr"].slice(start, stop - start).to_numpy(zero_copy_only=False).astype(np.float32)
    ceiling_V = _ceilings(ncsnr_V, Z_TV, stimulus_T, scored_S)
    ceiling_V[[status != "ok" for status in status_V]] = np.nan
    return Prepared(Y_SV, train_S, repeats_S, ceiling_V, bad_trials_V, status_V)


def standardise(X_TV: np.ndarray, session_T: np.ndarray, training_T: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """z-score `X_TV` in place, per voxel and session, with mean and deviation of the session's training trials.

    Returns
    -------
    bad_trials_V : array of shape (V,), int32
        Trials that are missing, and are 0 now.
    status_V : tuple of str
        See `Prepared`.
    """
    voxels = X_TV.shape[1]
    bad_V = np.zeros(voxels, np.int32)
    varies_V, seen_V = np.zeros(voxels, bool), np.zeros(voxels, bool)
    for session in np.unique(session_T):
        rows = np.flatnonzero(session_T == session)
        block = X_TV[rows].astype(np.float64)
        missing = ~np.isfinite(block)
        training = training_T[rows, None] & ~missing
        count_V = training.sum(0)
        block[missing] = 0
        mean_V = np.where(training, block, 0).sum(0) / np.maximum(count_V, 1)
        sd_V = np.sqrt(np.where(training, (block - mean_V) ** 2, 0).sum(0) / np.maximum(count_V, 1))
        flat_V = np.where(training, block, -np.inf).max(0) <= np.where(training, block, np.inf).min(0)
        missing |= flat_V
        X_TV[rows] = np.where(missing, 0, (block - mean_V) / (sd_V + EPSILON))
        bad_V += missing.sum(0, dtype=np.int32)
        varies_V |= ~flat_V
        seen_V |= count_V > 0
    return bad_V, tuple(_status(*voxel) for voxel in zip(bad_V > BAD_SHARE * len(X_TV), varies_V, seen_V, strict=True))


def _status(many_missing: bool, varies: bool, seen: bool) -> str:
    if seen and not varies:
        return "constant"
    return "bad" if many_missing else "ok"


def _ceilings(ncsnr_V: np.ndarray, Z_TV: np.ndarray, stimulus_T: np.ndarray, scored_S: np.ndarray) -> np.ndarray:
    """Noise ceilings (V,) float32: from ncsnr where it is known, else from repeats, a tile of voxels at a time."""
    repeats = torch.from_numpy(scored_S)
    ceiling_V = noise_ceiling_from_ncsnr(torch.from_numpy(ncsnr_V), repeats).numpy()
    unknown = np.flatnonzero(np.isnan(ncsnr_V))
    stimulus = torch.from_numpy(stimulus_T)
    for start in range(0, len(unknown), _TILE):
        tile = unknown[start : start + _TILE]
        ceiling_V[tile] = noise_ceiling_from_repeats(torch.from_numpy(Z_TV[:, tile]), stimulus, repeats).numpy()
    return ceiling_V
