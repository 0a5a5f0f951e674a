"""Projector: weight vectors to projected embeddings, through the question, merge and finish of the run's own step `project`.

The bank is held by actors that belong to the replica and end with it. What they answer is, to the last bit, what the run wrote
for the same weights: neither the number of holders nor who asks at the same time makes a difference. A run that projected by an
index is answered exactly (`certainty` says so): the index bounds what it leaves out, the whole bank leaves out nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.actors.bank_group import BankGroup
from scuba_ray.config import EngineConfig, RunConfig
from scuba_ray.config.serve import ServeConfig
from scuba_ray.protocols import Resources
from scuba_ray.serve.opening import bank_of, captioned_backbone, device_of, directions
from scuba_ray.serve.replica import Outcome, Replica, gathered
from scuba_ray.stages.project import Project
from scuba_ray.tables.columns import vectors
from scuba_ray.tables.schemas import KEYS, projections_schema
from scuba_ray.tables.store import RunFolder

Vector = npt.NDArray[np.float32]
_NOT_OF_ROWS = {*KEYS["projections"]} - {"partition"}
"""Columns of `projections` that name a voxel of a run."""


class Projector(Replica):
    """One replica: the holders of the bank, each of which reserves what `projector` says. It computes nothing itself."""

    on_device = False

    def __init__(self, settings: ServeConfig, config: RunConfig) -> None:
        """Start the holders. Raises ConfigError if the bank is not there or the cluster has no room for them."""
        super().__init__(settings.projector, settings.threads, self._ask_holders)
        device = device_of(settings, config, settings.projector, "projector")
        reader = captioned_backbone(config)
        self._project = Project(
            subject="",
            backbone=reader.name,
            dim=reader.dim,
            run=RunFolder(settings.run),
            bank=bank_of(settings, config, reader),
            settings=config.project,
            resources=Resources(cpus=settings.projector.cpus, gpus=settings.projector.gpus),
            device=device,
        )
        holders = min(settings.holders, self._project.segments)
        engine = EngineConfig(
            min_workers=holders, max_workers=holders, threads=settings.threads, retries=max(config.engine.retries, 1)
        )
        self._group = BankGroup(engine, self._project)
        self._ends.callback(self._group.end)
        self._schema = _schema(reader.dim)
        # loads the bank, and says here if it cannot be read
        self._projections([np.eye(1, reader.dim, dtype=np.float32)[0]])

    async def project(self, direction_VD: Vector) -> pa.Table:
        """Project weights, of any length, on the run's bank.

        Returns
        -------
        pa.Table
            For each of the rows its partitions and last the whole bank (partition -1). Columns: row (int32, as they were asked),
            then those of the table `projections` without subject, backbone and voxel_id.

        Raises
        ------
        DataError
            If weights have another length than the backbone's embeddings, or are zero or not finite.
        """
        direction_VD = directions("weights", direction_VD, self._project.dim)
        found = await self.ask(self._ask_holders, list(direction_VD))
        tables = [one.add_column(0, "row", pa.array([row] * len(one), pa.int32())) for row, one in enumerate(found)]
        return pa.concat_tables([self._schema.empty_table(), *tables]).combine_chunks()

    @gathered
    async def _ask_holders(self, calls: list[list[Vector]]) -> list[Outcome[pa.Table]]:
        return await self.compute(self._projections, calls)

    def _projections(self, weights: list[Vector]) -> list[pa.Table]:
        """The rows of each weight vector."""
        columns = {"voxel_id": np.arange(len(weights)), "status": ["ok"] * len(weights), "weight": vectors(np.stack(weights))}
        table = self._group.answer(self._project, pa.table(columns)).table
        parts = pc.value_counts(table["voxel_id"]).field("counts").to_pylist()
        starts = np.cumsum([0, *parts])
        table = table.select(self._schema.names[1:])
        return [table.slice(start, count) for start, count in zip(starts.tolist(), parts, strict=False)]


def _schema(dim: int) -> pa.Schema:
    fields = [field for field in projections_schema(dim) if field.name not in _NOT_OF_ROWS]
    return pa.schema([("row", pa.int32()), *fields])
