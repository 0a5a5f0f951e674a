"""project: voxel weights to projected embeddings, by a softmax over every picture of the bank (METHOD, BrainSCUBA eq. 3-4).

The bank is cut into segments; workers hold runs of them, and what they answer merges along a fixed tree. Each of the bank's
partitions and the whole come out of the one pass. Voxels whose status is not `ok` have no weight and no row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from scuba_ray.bank.segments import Segments
from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import ProjectConfig
from scuba_ray.core.projection import SoftmaxState, finish, merge
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.protocols import BadRow, Chunk, Resources, StageOutput
from scuba_ray.stages.bank_holding import BankHolding, Question
from scuba_ray.stages.projection_table import projection_table
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.schemas import PARTITIONS, projections_schema
from scuba_ray.tables.store import RunFolder

SEGMENT = 32_768
"""Rows of the bank in a segment. Sums start anew in each, so it is part of the method: another value, other last bits."""
STATES_BYTES = 256 * 2**20
"""Softmax states that a holder may keep for the chunks of one pass."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """Projections of one subject's voxels on one bank.

    Memory of a holder: its run of segments in float16 up to `hold_gib`, or three segments and a shard while it streams them;
    `STATES_BYTES` (at least one chunk's states); and `tile * (2 * chunk + dim) * 4` bytes of work.
    """

    subject: str
    backbone: str
    dim: int
    run: RunFolder
    bank: BankFolder
    settings: ProjectConfig
    resources: Resources
    device: str = "cpu"

    name = "project"
    version = 3
    table = "projections"
    input_columns = ("voxel_id", "status", "weight")
    input_name = "table voxels"

    @property
    def segments(self) -> int:
        return self._segments.count

    @property
    def held(self) -> str:
        work = (self.settings.hold_gib, self.settings.tile, self.device, self.bank.location)
        return fingerprint(self.name, self.version, self.bank.fingerprint, self.fingerprint(), work)

    @property
    def together(self) -> int:
        """As many as have room for a state at every level of the tree, one in the making and one being merged."""
        levels = self.segments.bit_length() + 2
        state = 4 * PARTITIONS * self.settings.chunk * (self.dim + 4)
        nearest = 8 * PARTITIONS * self.settings.chunk * self.settings.nearest
        return max(STATES_BYTES // (levels * state + nearest), 1)

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "beta": self.settings.beta,
            "nearest": self.settings.nearest,
            "scores": self.settings.scores,
            "segment": SEGMENT,
        }

    def read(self, chunk: Chunk) -> pa.Table:
        key = f"{self.subject}/{self.backbone}"
        return self.run.slice("voxels", key, chunk.start, chunk.stop, columns=self.input_columns)

    def hold(self, first: int, stop: int) -> BankHolding:
        return BankHolding(self._segments, (first, stop), settings=self.settings, dim=self.dim, device=self.device)

    def question(self, rows: pa.Table) -> Question:
        rows = rows.filter(pc.equal(rows["status"], "ok"))
        direction_VD, length_V = unit_and_norm(torch.tensor(matrix(rows["weight"])).reshape(len(rows), self.dim))
        pointing_V = (length_V > 0).numpy()
        bad = tuple(
            BadRow(f"subject={self.subject}, voxel_id={voxel}", "its weights are all zero, so it has no direction")
            for voxel in rows["voxel_id"].filter(pa.array(~pointing_V)).to_pylist()
        )
        return Question(rows["voxel_id"].to_numpy()[pointing_V], direction_VD.numpy()[pointing_V], bad)

    def merge(self, left: SoftmaxState, right: SoftmaxState) -> SoftmaxState:
        """On the device, where a holder merges too: exponentials of another device differ in the last bit."""
        return merge(left.to(self.device), right.to(self.device)).to("cpu")

    def finish(self, question: Question, answer: SoftmaxState) -> StageOutput:
        direction_VD = torch.tensor(question.direction_VD, device=self.device)
        if not len(direction_VD):
            return StageOutput(projections_schema(self.dim).empty_table(), question.bad)
        projection = finish(answer.to(self.device), direction_VD)
        table = projection_table(question.voxel_V, projection, self.bank, subject=self.subject, backbone=self.backbone)
        return StageOutput(table, question.bad)

    @property
    def _segments(self) -> Segments:
        return Segments(self.bank, SEGMENT)
