"""Opening what `nsd_files` wrote, and spoiling a session of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from scuba_ray.datasets.nsd import NsdDataset
from tests.datasets.nsd_files import AFFINE, DONE, Planted

HALF_A_STEP = 0.5 / 300 + 1e-6
"""What int16 loses."""


def opened(planted: Planted, **options: Any) -> NsdDataset:
    return NsdDataset("subj01", str(planted.root), **{"sessions_done": DONE, **options})


def responses(dataset: NsdDataset) -> np.ndarray:
    sessions = sorted(set(dataset.trials()["session"].to_pylist()))
    return np.concatenate([dataset.read_session(session) for session in sessions])


def replaced(planted: Planted, session: int, change: Callable[[np.ndarray], np.ndarray], slope: float | None = None) -> Path:
    """Rewrite a session's file from its stored values (X, Y, Z, T)."""
    path = planted.betas / f"betas_session{session:02d}.nii.gz"
    image = nibabel.Nifti1Image(change(np.asanyarray(nibabel.load(path).dataobj)), AFFINE)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)
    return path
