"""significance: the false-discovery rate over all of a subject's voxels, which completes the table `voxels`.

A chunk of voxels cannot know it, and a part is written once; so `fit` writes `fits`, and this step copies it with `q` added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.core.statistics import benjamini_hochberg
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.tables.columns import numbers, table_of
from scuba_ray.tables.schemas import voxels_schema
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class Significance:
    """Benjamini-Hochberg q of one subject's voxels under one backbone; null where p is."""

    subject: str
    backbone: str
    dim: int
    run: RunFolder
    resources: Resources

    name = "significance"
    version = 1
    table = "voxels"
    input_columns = ("voxel_id", "p", "q")
    input_name = "table fits"

    @property
    def key(self) -> str:
        return f"{self.subject}/{self.backbone}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"rate": "benjamini-hochberg"}

    def setup(self) -> None:
        _ = self._q

    @cached_property
    def _q(self) -> npt.NDArray[np.float32]:
        p_V = self.run.read("fits", key=self.key, columns=["p"])["p"].to_numpy()
        q_V: npt.NDArray[np.float32] = benjamini_hochberg(torch.tensor(p_V)).numpy()
        return q_V

    def read(self, chunk: Chunk) -> pa.Table:
        fits = self.run.slice("fits", self.key, chunk.start, chunk.stop)
        return fits.append_column("q", numbers(self._q[chunk.start : chunk.stop]))

    def __call__(self, rows: pa.Table) -> StageOutput:
        return StageOutput(table_of(voxels_schema(self.dim), {name: rows[name] for name in rows.column_names}))
