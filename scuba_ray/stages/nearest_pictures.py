"""nearest: the pictures of the bank that are nearest to some voxel, of any subject, each once, out of one pass over its shards.

Later steps describe and cluster these pictures; a bank of millions has some thousands of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import RunConfig
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.tables.columns import table_of
from scuba_ray.tables.schemas import WHOLE_BANK, nearest_pictures_schema
from scuba_ray.tables.store import RunFolder

_ROWS = 8192
"""Rows read at once, of projections and of shards."""


def pictures_wanted(config: RunConfig) -> int:
    """How many nearest pictures of each voxel the steps and analyses of a run look at; 0 if none does."""
    wanted = [part.pictures for part in (config.lavca, config.concepts) if part is not None]
    wanted += [config.support.pictures] if "support" in config.analyses else []
    wanted += [config.clusters.pictures] if "clusters" in config.analyses else []
    wanted += [1] if config.score is not None and config.score.top_image else []
    return min(max(wanted, default=0), config.project.nearest)


@dataclass(frozen=True, kw_only=True)
class NearestPictures:
    """The `pictures` nearest of every voxel of the units `keys` of the table projections. Its rows are the bank's shards.

    Memory: the distinct ids, and 8192 rows of projections or of a shard.
    """

    backbone: str
    dim: int
    keys: tuple[str, ...]
    pictures: int
    run: RunFolder
    bank: BankFolder
    resources: Resources

    name = "nearest"
    version = 1
    table = "nearest_pictures"
    input_columns = ("image_id", "embedding", "norm", "source", "uri")

    @property
    def input_name(self) -> str:
        return f"the bank at {self.bank.location}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"pictures": self.pictures, "of": list(self.keys)}

    def setup(self) -> None:
        _ = self._ids

    @cached_property
    def _ids(self) -> pa.Array:
        """Ids of the nearest pictures, each once."""
        found = pa.array([], pa.string())
        for key in self.keys:
            rows = self.run.rows("projections", key)
            for start in range(0, rows, _ROWS):
                some = self.run.slice("projections", key, start, min(start + _ROWS, rows), columns=("partition", "nearest_ids"))
                nearest = some.filter(pc.equal(some["partition"], WHOLE_BANK))["nearest_ids"]
                first = pc.list_flatten(pc.list_slice(nearest, 0, self.pictures))
                found = pc.unique(pa.chunked_array([found, *first.chunks], pa.string()))
        return found

    def read(self, chunk: Chunk) -> pa.Table:
        kept = [nearest_pictures_schema(self.dim).empty_table().select(self.input_columns)]
        for shard in self.bank.shards[chunk.start : chunk.stop]:
            with self.bank.open(shard) as file:
                for batch in file.iter_batches(batch_size=_ROWS, columns=list(self.input_columns)):
                    some = pa.Table.from_batches([batch]).select(self.input_columns).replace_schema_metadata(None)
                    kept.append(some.filter(pc.is_in(some["image_id"], value_set=self._ids)))
        return pa.concat_tables(kept)

    def __call__(self, rows: pa.Table) -> StageOutput:
        columns = {name: rows[name] for name in self.input_columns}
        return StageOutput(table_of(nearest_pictures_schema(self.dim), {"backbone": self.backbone, **columns}))
