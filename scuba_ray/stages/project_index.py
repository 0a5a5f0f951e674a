"""project by index: each voxel attends to its nearest pictures only, where the bound on all others is small enough.

A chunk's voxels are searched for together; their candidates are rescored and summed block by block (`core/truncated.py`). A voxel
any of whose rows may miss more than `project.tolerance` of its mass is projected exactly after all, in the same worker and by the
code of `stages/project.py`. Of an approximate index the share of neighbours it does not find (by its recall at 10) counts as
missing: with the usual recall and tolerance every voxel falls back, and such an index is for look-ups. The column `certainty`
tells the three cases apart: `certified` (exact index), `estimated` (approximate index), `exact`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.bank.index import BankIndex, IndexInfo, info_of
from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import ProjectConfig
from scuba_ray.core.states import SoftmaxState
from scuba_ray.core.tree import Forest
from scuba_ray.core.truncated import Candidates, Truncated, truncate
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.stages.bank_holding import BankHolding, Question
from scuba_ray.stages.project import Project
from scuba_ray.stages.projection_table import projection_table
from scuba_ray.tables.schemas import PARTITIONS, projections_schema

BLOCK_BYTES = 256 * 2**20
"""Candidates' embeddings of the voxels of one block; as much again for what is being gathered."""


def check_index(bank: BankFolder | None, settings: ProjectConfig) -> IndexInfo:
    """The index that `project.method: index` uses.

    Raises
    ------
    ConfigError
        If there is none in the bank's folder, it belongs to another state of the bank, the run builds its own bank, or fewer
        candidates than nearest pictures are asked for.
    """
    if bank is None:
        raise ConfigError(
            "project.method: index needs a bank that has an index; build one with `scuba bank build` and `scuba bank index`, and "
            "give its folder as bank.path"
        )
    if settings.candidates < settings.nearest:
        raise ConfigError(
            f"project.candidates ({settings.candidates}) must be at least project.nearest ({settings.nearest}): the nearest "
            "pictures are taken from the candidates"
        )
    return info_of(bank)


@dataclass(frozen=True, kw_only=True)
class ProjectIndex:
    """Projections of one subject's voxels by a bank's index.

    Memory: the index, shared between the processes of a machine; 2 `BLOCK_BYTES`; and, once a voxel falls back, what one holder
    of the exact projection takes that holds the whole bank (`Project`).
    """

    exact: Project
    """The exact projection of the same voxels: what is read, asked and computed where the index does not do."""
    info: IndexInfo
    resources: Resources

    name = "project"
    version = 2
    table = "projections"
    input_columns = Project.input_columns
    input_name = Project.input_name

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self.exact.settings
        return {
            "exact": dict(self.exact.fingerprint()),
            "index": self.info.identity,
            "candidates": settings.candidates,
            "tolerance": settings.tolerance,
        }

    def setup(self) -> None:
        _ = self._index.stored, self._index.norms, self._index.partitions

    def read(self, chunk: Chunk) -> pa.Table:
        return self.exact.read(chunk)

    def __call__(self, rows: pa.Table) -> StageOutput:
        asked = self.exact.question(rows)
        tables, above = [projections_schema(self.exact.dim).empty_table()], []
        for block, truncated in self.truncated(asked.direction_VD):
            missing_VP = truncated.missing_mass_PV[truncated.projection.count_P > 0].T.cpu().numpy()
            within_V = missing_VP.max(axis=1) <= self.exact.settings.tolerance
            above.append(~within_V)
            table = projection_table(
                asked.voxel_V[block],
                truncated.projection,
                self.exact.bank,
                subject=self.exact.subject,
                backbone=self.exact.backbone,
                missing_mass=missing_VP.ravel(),
                certainty="certified" if self.info.exact else "estimated",
            )
            tables.append(table.filter(pa.array(np.repeat(within_V, missing_VP.shape[1]))))
        if above and (fallen_V := np.concatenate(above)).any():
            fallen = Question(asked.voxel_V[fallen_V], asked.direction_VD[fallen_V], ())
            tables.append(self.exact.finish(fallen, self.exact_state(fallen)).table)
        return StageOutput(_in_order(pa.concat_tables(tables), asked.voxel_V), asked.bad)

    def truncated(self, direction_VD: npt.NDArray[np.float32]) -> Iterator[tuple[slice, Truncated]]:
        """Blocks of voxels, projected on their candidates."""
        index, settings = self._index, self.exact.settings
        count_P = torch.from_numpy(np.bincount(index.partitions, minlength=PARTITIONS)).to(self.exact.device)
        if not len(direction_VD):
            return
        cos_Vk, row_Vk = index.nearest(direction_VD, min(settings.candidates, self.info.rows))
        size = max(BLOCK_BYTES // (row_Vk.shape[1] * self.info.dim * 4), 1)
        for start in range(0, len(direction_VD), size):
            block = slice(start, start + size)
            candidates = self._candidates(cos_Vk[block], row_Vk[block])
            directions = torch.from_numpy(direction_VD[block]).to(self.exact.device)
            yield (
                block,
                truncate(
                    candidates,
                    directions,
                    count_P,
                    beta=settings.beta,
                    nearest=settings.nearest,
                    recall=self.info.recall_10,
                ),
            )

    def _candidates(self, cos_Vk: npt.NDArray[np.float32], row_Vk: npt.NDArray[np.int64]) -> Candidates:
        """Rows with their stored vectors. A place without a row holds that of row 0, and counts for nothing."""
        rows, place_Vk = np.unique(np.maximum(row_Vk, 0), return_inverse=True)
        unit_UD = torch.from_numpy(self._index.vectors(rows)).to(self.exact.device)
        norm_U, partition_U = (torch.from_numpy(column[rows]) for column in (self._index.norms, self._index.partitions))
        place = torch.from_numpy(place_Vk.reshape(row_Vk.shape))
        return Candidates(
            unit_VkD=unit_UD[place.to(unit_UD.device)],
            norm_Vk=norm_U[place].to(unit_UD.device),
            partition_Vk=partition_U[place].to(unit_UD.device),
            index_Vk=torch.from_numpy(row_Vk).to(unit_UD.device),
            floor_V=torch.from_numpy(np.fmin.reduce(cos_Vk, axis=1)).to(unit_UD.device),
        )

    def exact_state(self, asked: Question) -> SoftmaxState:
        """What the whole bank answers, by a pass over it."""
        forest = Forest(self.exact.merge)
        for node, state in self._whole_bank.answer([asked])[0].items():
            forest.add(node, state)
        return forest.fold()

    @cached_property
    def _index(self) -> BankIndex:
        return BankIndex(self.exact.bank, device=self.exact.device, threads=torch.get_num_threads())

    @cached_property
    def _whole_bank(self) -> BankHolding:
        return self.exact.hold(0, self.exact.segments)


def _in_order(table: pa.Table, voxel_V: npt.NDArray[np.int64]) -> pa.Table:
    """Rows in the order of the voxels; those of one voxel stay in theirs."""
    order_V = np.argsort(voxel_V)
    place = order_V[np.searchsorted(voxel_V, table["voxel_id"].to_numpy(), sorter=order_V)]
    return table.take(pa.array(np.argsort(place, kind="stable"))).combine_chunks()
