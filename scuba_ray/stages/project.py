"""project: voxel weights to projected embeddings, by a softmax over every picture of the bank (METHOD, BrainSCUBA eq. 3-4).

The bank streams past in tiles; each of its partitions and the whole come out of the one pass. Voxels whose status is not `ok`
have no weight and no row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import ProjectConfig
from scuba_ray.core.projection import Projection, SoftmaxState, empty_state, finish, update
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.protocols import BadRow, Chunk, Resources, StageOutput
from scuba_ray.tables.columns import matrix, numbers, table_of, vectors
from scuba_ray.tables.schemas import PARTITIONS, WHOLE_BANK, projections_schema
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class Project:
    """Projections of one subject's voxels on one bank. Memory: V * D * 4 * 6 bytes of state, 2 * V * tile * 4 of work, a tile."""

    subject: str
    backbone: str
    dim: int
    run: RunFolder
    bank: BankFolder
    settings: ProjectConfig
    resources: Resources
    device: str = "cpu"

    name = "project"
    version = 1
    table = "projections"
    input_columns = ("voxel_id", "status", "weight")
    input_name = "table voxels"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"beta": self.settings.beta, "nearest": self.settings.nearest}

    def setup(self) -> None:
        _ = self.bank.shards

    def read(self, chunk: Chunk) -> pa.Table:
        key = f"{self.subject}/{self.backbone}"
        return self.run.slice("voxels", key, chunk.start, chunk.stop, columns=self.input_columns)

    def __call__(self, rows: pa.Table) -> StageOutput:
        rows = rows.filter(pc.equal(rows["status"], "ok"))
        direction_VD, length_V = unit_and_norm(torch.tensor(matrix(rows["weight"])))
        pointing = (length_V > 0).numpy()
        bad = tuple(
            BadRow(f"subject={self.subject}, voxel_id={voxel}", "its weights are all zero, so it has no direction")
            for voxel in rows["voxel_id"].filter(pa.array(~pointing)).to_pylist()
        )
        rows = rows.filter(pa.array(pointing))
        direction_VD = direction_VD[torch.from_numpy(pointing)].to(self.device)
        projection = finish(self._attend(direction_VD), direction_VD)
        return StageOutput(self._table(rows["voxel_id"].to_numpy(), projection), bad)

    def _attend(self, direction_VD: torch.Tensor) -> SoftmaxState:
        """Stream the bank past the voxels."""
        voxels, dim = direction_VD.shape
        state = empty_state(voxels, dim, PARTITIONS, self.settings.nearest, self.device)
        if not voxels:
            return state
        for tile in self.bank.tiles(self.settings.tile):
            unit_KD, _ = unit_and_norm(torch.tensor(tile.embedding_KD, device=self.device))
            norm_K, partition_K = (torch.tensor(column, device=self.device) for column in (tile.norm_K, tile.partition_K))
            update(
                state,
                direction_VD,
                unit_KD,
                norm_K,
                partition_K,
                offset=tile.offset,
                beta=self.settings.beta,
                tile=self.settings.tile,
            )
        return state

    def _table(self, voxel_V: npt.NDArray[np.int64], projection: Projection) -> pa.Table:
        """Rows voxel by voxel, partitions 0, 1, ... and last the whole bank; a partition without pictures has no row."""
        filled_P = (projection.count_P > 0).cpu().numpy()
        partition_P = np.append(np.arange(PARTITIONS), WHOLE_BANK)[filled_P]

        def flat(values: torch.Tensor) -> npt.NDArray[Any]:
            array: npt.NDArray[Any] = values.cpu().numpy()[filled_P].swapaxes(0, 1)
            return array.reshape(-1, *array.shape[2:])

        ids, cosines = self._nearest(flat(projection.nearest_index_PVk), flat(projection.nearest_cos_PVk))
        columns = {
            "subject": self.subject,
            "backbone": self.backbone,
            "voxel_id": np.repeat(voxel_V, len(partition_P)),
            "partition": np.tile(partition_P, len(voxel_V)),
            "embedding": vectors(flat(projection.embedding_PVD)),
            "cos_before_after": numbers(flat(projection.cos_before_after_PV)),
            "n_eff": numbers(flat(projection.n_eff_PV)),
            "bank_agreement": numbers(flat(projection.bank_agreement_PV)),
            "certainty": "exact",
            "nearest_ids": ids,
            "nearest_cos": cosines,
            "missing_mass": 0.0,
        }
        return table_of(projections_schema(self.dim), columns)

    def _nearest(self, index_Nk: npt.NDArray[np.int64], cos_Nk: npt.NDArray[np.float32]) -> tuple[pa.Array, pa.Array]:
        """Ids and cosines of the nearest pictures, fewer than `nearest` where there are no more."""
        there_Nk = index_Nk >= 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(there_Nk.sum(axis=1))]).astype(np.int32))
        ids = pa.array(self.bank.ids(index_Nk[there_Nk]), pa.string())
        return pa.ListArray.from_arrays(offsets, ids), pa.ListArray.from_arrays(offsets, pa.array(cos_Nk[there_Nk], pa.float32()))
