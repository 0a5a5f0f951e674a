"""Scanning a simulated subject: repeats in random order, noise at each voxel's level, and sessions that differ as scanners do.

A session has a baseline of its own, which wanders from session to session, and a gain of its own, both per voxel. Standardising
each session removes both exactly; nothing else in here favours one analysis over another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

REPEATS = 3
TRIALS_PER_SESSION = 750
_BASELINE_STEP = 2.0
_GAIN_SPREAD = 0.25
_ROWS = 1000


@dataclass(frozen=True)
class Trials:
    """Which stimulus each trial shows, and in which session: both (T,) int64."""

    stimulus_T: torch.Tensor
    session_T: torch.Tensor


def order_trials(generator: torch.Generator, stimuli: int) -> Trials:
    """Every stimulus three times, in random order, in sessions of about 750 trials (two sessions at least)."""
    trials = stimuli * REPEATS
    sessions = max(2, round(trials / TRIALS_PER_SESSION))
    order_T = torch.randperm(trials, generator=generator) % stimuli
    return Trials(order_T, torch.arange(trials) * sessions // trials)


def ncsnr_of_ceiling(ceiling_V: torch.Tensor) -> torch.Tensor:
    """Signal deviation over noise deviation of one trial, for the ceiling of responses averaged over the repeats.

    Inverse of METHOD section 1, NC = s^2 / (s^2 + 1/REPEATS).
    """
    return (ceiling_V / (REPEATS * (1 - ceiling_V))).sqrt()


def scan(generator: torch.Generator, signal_SV: torch.Tensor, ceiling_V: torch.Tensor, trials: Trials) -> Iterator[torch.Tensor]:
    """Yield responses in runs of up to 1,000 trials, (rows, V) float32: gain * (signal + noise) + baseline.

    `signal_SV` has variance 1, or is 0 for a voxel that responds to nothing; it is scaled so that it and the noise, which is
    white and normal, add up to variance 1 in every voxel.
    """
    voxels = signal_SV.shape[1]
    sessions = int(trials.session_T[-1]) + 1
    steps_NV = torch.randn(sessions, voxels, generator=generator) * _BASELINE_STEP
    baseline_NV = steps_NV.cumsum(0)
    gain_NV = (torch.randn(sessions, voxels, generator=generator) * _GAIN_SPREAD).exp()
    ncsnr_V = ncsnr_of_ceiling(ceiling_V)
    noise_V = (1 + ncsnr_V**2).rsqrt()
    for start in range(0, len(trials.stimulus_T), _ROWS):
        session = trials.session_T[start : start + _ROWS]
        signal_BV = signal_SV[trials.stimulus_T[start : start + _ROWS]] * (ncsnr_V * noise_V)
        noise_BV = torch.randn(signal_BV.shape, generator=generator) * noise_V
        yield gain_NV[session] * (signal_BV + noise_BV) + baseline_NV[session]
