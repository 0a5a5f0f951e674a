"""prepare: the second pass over a subject's responses. Some voxels' trials of all sessions, averaged over repeats.

It reads what the first pass wrote (`stages/read_sessions.py`), a block of voxels from every session, and nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.preparation import BAD_SHARE, Trials, averaged, noise_ceilings, statuses, trials_of
from scuba_ray.protocols import Chunk, Resources, StageOutput, SubjectDataset
from scuba_ray.tables.columns import lists, matrix, numbers, table_of
from scuba_ray.tables.response_schemas import RESPONSES
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class AverageRepeats:
    """Responses of one subject's voxels, as a fit reads them. Memory: see `PrepareConfig`."""

    subject: SubjectConfig
    run: RunFolder
    resources: Resources

    name = "prepare"
    version = 1
    table = "responses"
    input_columns = ("voxel_id", "ncsnr", "trials", "bad_trials", "varies", "seen")

    @property
    def input_name(self) -> str:
        return f"voxels of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        """The first pass's settings are in the fingerprint of its table."""
        return {"bad_share": BAD_SHARE}

    def setup(self) -> None:
        _ = self._trials

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _trials(self) -> Trials:
        return trials_of(self._dataset)

    def read(self, chunk: Chunk) -> pa.Table:
        """Voxels with all their standardised trials, in the order of `trials()`."""
        voxels = self._dataset.voxels().select(["voxel_id", "ncsnr"])
        count, total = chunk.stop - chunk.start, len(voxels)
        trials_VT = np.empty((count, len(self._trials.session_T)), np.float32)
        bad_trials_V = np.zeros(count, np.int32)
        varies_V, seen_V = np.zeros(count, bool), np.zeros(count, bool)
        wanted = ["responses", "bad_trials", "varies", "training_trials"]
        for place, session in enumerate(self._trials.sessions):
            start = place * total + chunk.start
            part = self.run.slice("sessions", self.subject.name, start, start + count, wanted)
            trials_VT[:, self._trials.session_T == session] = matrix(part["responses"])
            bad_trials_V += part["bad_trials"].to_numpy()
            varies_V |= part["varies"].to_numpy()
            seen_V |= part["training_trials"].to_numpy() > 0
        columns = {"trials": lists(trials_VT), "bad_trials": bad_trials_V, "varies": varies_V, "seen": seen_V}
        about = voxels.slice(chunk.start, count)
        return pa.table({**{name: about[name] for name in about.column_names}, **columns})

    def __call__(self, rows: pa.Table) -> StageOutput:
        Z_VT = matrix(rows["trials"])
        bad_trials_V = rows["bad_trials"].to_numpy()
        status = statuses(bad_trials_V, Z_VT.shape[1], rows["varies"].to_numpy(), rows["seen"].to_numpy())
        ncsnr_V = rows["ncsnr"].to_numpy().astype(np.float32)
        columns = {
            "subject": self.subject.name,
            "voxel_id": rows["voxel_id"],
            "responses": lists(averaged(Z_VT, self._trials)),
            "noise_ceiling": numbers(noise_ceilings(Z_VT, ncsnr_V, self._trials, status)),
            "bad_trials": bad_trials_V,
            "status": status,
        }
        return StageOutput(table_of(RESPONSES, columns))
