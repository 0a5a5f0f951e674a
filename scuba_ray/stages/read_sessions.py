"""read: the first pass over a subject's responses. Each session is read once, standardised, and written with a row per voxel.

The second pass (`stages/average_repeats.py`) reads blocks of voxels from all sessions, so a part's rows lie in groups of
`prepare.chunk` voxels. The table `sessions` is scratch: it holds T * V values, is read by nothing else, and is deleted when the
subject's `responses` are complete. Making those anew (another chunk, a damaged part) reads the data set anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.config import PrepareConfig, SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.preparation import EPSILON, Standardised, Trials, standardise, trials_of
from scuba_ray.errors import DataError
from scuba_ray.protocols import Chunk, Resources, StageOutput, SubjectDataset
from scuba_ray.tables.columns import lists, matrix, table_of
from scuba_ray.tables.parts import ROW_GROUP
from scuba_ray.tables.response_schemas import sessions_schema


@dataclass(frozen=True, kw_only=True)
class ReadSessions:
    """One subject's sessions; a chunk is one of them, in rising order. Memory: see `PrepareConfig`."""

    subject: SubjectConfig
    settings: PrepareConfig
    resources: Resources

    name = "read"
    version = 1
    table = "sessions"
    input_columns = ("session", "voxel_id", "responses")

    @property
    def input_name(self) -> str:
        return f"sessions of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"dtype": self.settings.dtype, "epsilon": EPSILON}

    def setup(self) -> None:
        _ = self._trials

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _trials(self) -> Trials:
        return trials_of(self._dataset)

    def read(self, chunk: Chunk) -> pa.Table:
        """The session's trials as they are, a row per voxel. An error of the data set's files ends the step: it is no row's."""
        (session,) = self._trials.sessions[chunk.start : chunk.stop]
        X_TV = self._dataset.read_session(session)
        ids = self._dataset.voxels()["voxel_id"]
        wanted = (int((self._trials.session_T == session).sum()), len(ids))
        if X_TV.shape != wanted:
            raise DataError(
                f"session {session} of {self.subject.name} has responses of shape {X_TV.shape}, wanted {wanted}: "
                f"trials and voxels as the tables of layout {self.subject.dataset!r} list them"
            )
        starts = range(0, len(ids), self.settings.chunk)
        blocks = pa.chunked_array([lists(X_TV[:, start : start + self.settings.chunk].T) for start in starts])
        return pa.table({"session": pa.repeat(pa.scalar(session, pa.int32()), len(ids)), "voxel_id": ids, "responses": blocks})

    def __call__(self, rows: pa.Table) -> StageOutput:
        session = rows["session"][0].as_py()
        training_T = self._trials.train_S[self._trials.stimulus_T[self._trials.session_T == session]]
        blocks = [self._block(standardise(matrix(block), training_T)) for block in rows["responses"].chunks]
        columns = {"subject": self.subject.name, "session": rows["session"], "voxel_id": rows["voxel_id"]}
        columns |= {name: pa.chunked_array([block[name] for block in blocks]) for name in blocks[0]}
        made = table_of(sessions_schema(self._type), columns)
        return StageOutput(made.replace_schema_metadata({ROW_GROUP: str(self.settings.chunk)}))

    def _block(self, block: Standardised) -> dict[str, pa.Array]:
        """The columns that some voxels' trials become."""
        return {
            "responses": lists(self._kept(block.Z_VT)),
            "bad_trials": pa.array(block.bad_trials_V),
            "varies": pa.array(block.varies_V),
            "training_trials": pa.array(block.training_trials_V),
        }

    def _kept(self, Z_VT: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """z-scores of the type they are kept in; those beyond half precision become its largest."""
        if self.settings.dtype == "float32":
            return Z_VT
        largest = np.finfo(np.float16).max
        return Z_VT.clip(-largest, largest).astype(np.float16)

    @property
    def _type(self) -> pa.DataType:
        return pa.float32() if self.settings.dtype == "float32" else pa.float16()
