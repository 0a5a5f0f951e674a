"""audit: a sample of the voxels whose missing mass is only estimated, projected exactly, to see what is really missing.

An approximate index may miss images that score higher than the last candidate, so the bound of `core/truncated.py` does not bind.
The sample is searched again, as `stages/project_index.py` does, and held against the bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scuba_ray.core.projection import finish
from scuba_ray.core.states import combine, partition_of
from scuba_ray.core.truncated import log_mass
from scuba_ray.core.vectors import cosine
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.stages.project_index import ProjectIndex
from scuba_ray.tables.columns import numbers, table_of
from scuba_ray.tables.schemas import AUDITS, PARTITIONS, WHOLE_BANK
from scuba_ray.tables.store import RunFolder

SAMPLE = 64
"""Voxels audited; they cost one pass over the bank together."""


def sampled(run: RunFolder, key: str, seed: int) -> tuple[int, ...]:
    """Ids of up to `SAMPLE` random voxels of a finished unit of `projections` whose missing mass is estimated, rising."""
    rows = run.read("projections", key=key, columns=["voxel_id", "partition", "certainty"])
    mine = pc.and_(pc.equal(rows["partition"], WHOLE_BANK), pc.equal(rows["certainty"], "estimated"))
    voxel_V = np.sort(rows.filter(mine)["voxel_id"].to_numpy())
    chosen = np.random.default_rng(seed).choice(voxel_V, min(SAMPLE, len(voxel_V)), replace=False)
    return tuple(sorted(chosen.tolist()))


@dataclass(frozen=True, kw_only=True)
class AuditIndex:
    """What is missing from the projections of some voxels by an approximate index, beside what was estimated."""

    projected: ProjectIndex
    """What made the projections."""
    voxels: tuple[int, ...]
    resources: Resources

    name = "audit"
    version = 1
    table = "audits"
    input_columns = ProjectIndex.input_columns
    input_name = ProjectIndex.input_name

    def fingerprint(self) -> Mapping[str, Any]:
        return {"projected": dict(self.projected.fingerprint()), "voxels": list(self.voxels)}

    def setup(self) -> None:
        self.projected.setup()

    def read(self, chunk: Chunk) -> pa.Table:
        exact = self.projected.exact
        rows = exact.run.read("voxels", key=f"{exact.subject}/{exact.backbone}", columns=list(self.input_columns))
        return rows.filter(pc.is_in(rows["voxel_id"], pa.array(self.voxels[chunk.start : chunk.stop], pa.int64())))

    def __call__(self, rows: pa.Table) -> StageOutput:
        exact = self.projected.exact
        asked = exact.question(rows)
        state = self.projected.exact_state(asked).to(exact.device)
        truth = finish(state, torch.from_numpy(asked.direction_VD).to(exact.device))
        whole = combine([partition_of(state, partition) for partition in range(PARTITIONS)])
        log_mass_PV = torch.cat([log_mass(state), log_mass(whole)])
        filled_P = (truth.count_P > 0).cpu()
        tables = [AUDITS.empty_table()]
        for block, truncated in self.projected.truncated(asked.direction_VD):
            missing_PV = -torch.expm1(truncated.log_mass_PV - log_mass_PV[:, block])
            similar_PV = cosine(truth.embedding_PVD[:, block], truncated.projection.embedding_PVD)
            voxel_V = asked.voxel_V[block]
            flat = (one.cpu()[filled_P].T.reshape(-1).numpy() for one in (truncated.missing_mass_PV, missing_PV, similar_PV))
            stated_N, missing_N, similar_N = flat
            columns = {
                "subject": exact.subject,
                "backbone": exact.backbone,
                "voxel_id": np.repeat(voxel_V, int(filled_P.sum())),
                "partition": np.tile(np.append(np.arange(PARTITIONS), WHOLE_BANK)[filled_P.numpy()], len(voxel_V)),
                "missing_mass": numbers(stated_N),
                "true_missing_mass": numbers(np.maximum(missing_N, 0.0)),
                "cosine": numbers(similar_N),
            }
            tables.append(table_of(AUDITS, columns))
        return StageOutput(pa.concat_tables(tables).combine_chunks(), asked.bad)
