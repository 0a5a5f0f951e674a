"""The prepared responses of a run of voxels, as everything that fits or judges reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scuba_ray.errors import DataError, WorkerError
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True)
class Prepared:
    """Responses of a run of voxels, one row per stimulus in the order of `dataset.stimuli()`.

    `status_V` is `ok`, `constant` (its training responses vary in no session: its column of `Y_SV` is 0) or `bad` (too many of
    its trials are missing).
    """

    Y_SV: npt.NDArray[np.float32]
    """(S, V): standardised, repeats averaged."""
    noise_ceiling_V: npt.NDArray[np.float32]
    """(V,): share of the averaged test responses' variance that is signal; NaN where it cannot be known."""
    bad_trials_V: npt.NDArray[np.int32]
    """(V,): trials that are missing; they count as 0, the session's mean."""
    status_V: tuple[str, ...]


def read_responses(run: RunFolder, subject: str, start: int, stop: int) -> Prepared:
    """Read the voxels `[start, stop)` of the table `responses`. Memory: S * 4 bytes a voxel, of the parts they lie in.

    Raises
    ------
    WorkerError
        If the subject's responses are not prepared, or a part cannot be read. It is no row's fault: the step ends, and no voxel
        is put in quarantine for it.
    """
    try:
        rows = run.slice("responses", subject, start, stop)
    except DataError as error:
        raise WorkerError(str(error)) from error
    return Prepared(
        Y_SV=matrix(rows["responses"]).T,
        noise_ceiling_V=rows["noise_ceiling"].to_numpy().astype(np.float32),
        bad_trials_V=rows["bad_trials"].to_numpy(),
        status_V=tuple(rows["status"].to_pylist()),
    )
