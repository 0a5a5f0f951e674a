"""Where randomness comes from: one page of disjoint ranges, so that nothing a model was trained on is in what it is tried on.

torch's CPU generator keeps the low 32 bits of a seed only, so all ranges lie below 2**32. A user's seed (`--seed N`) picks one
place in each range; the models' training has a range of its own, which no phantom draws from.
"""

from __future__ import annotations

import torch

from scuba_ray.errors import ConfigError

SPAN = 400_000_000
"""Seeds in a range: a user's seed lies in [0, SPAN)."""

TRAINING = range(0, SPAN)
"""Scenes the phantom's models are trained on."""
TRAINING_SEED = TRAINING[0]
"""The first model's; the others count on from it."""
HELD_OUT = range(1 * SPAN, 2 * SPAN)
"""Scenes the trained models are scored on, for the model cards and tests."""
HELD_OUT_SEED = HELD_OUT[0]
STIMULI = range(2 * SPAN, 3 * SPAN)
"""A subject's training stimuli."""
SHARED = range(3 * SPAN, 4 * SPAN)
"""Test stimuli: the first seed only, since subjects of all seeds see the same ones."""
BANK = range(4 * SPAN, 5 * SPAN)
"""A phantom's bank."""
SUBJECT = range(5 * SPAN, 6 * SPAN)
"""A subject's tuning: which voxel likes what, and how noisy it is."""
RESPONSES = range(6 * SPAN, 7 * SPAN)
"""Order of trials, noise and drifts of the sessions."""


def generator(purpose: range, seed: int = 0) -> torch.Generator:
    """A CPU generator at place `seed` of a range above.

    Raises
    ------
    ConfigError
        If the seed is negative or SPAN or more.
    """
    if not 0 <= seed < SPAN:
        raise ConfigError(f"a phantom's seed must be in 0 to {SPAN - 1}, got {seed}")
    return torch.Generator().manual_seed(purpose[seed])
