"""bank-import: embeddings of another program in, shards of a bank out, as `scuba bank build` would have written them.

Unit vectors get the length that was stated for them; raw embeddings keep theirs. What cannot be projected on (not finite, zero, a
picture that could not be read) goes to quarantine with the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.bank.importers import NORMS, Embeddings, Norms
from scuba_ray.bank.info import STATISTICS
from scuba_ray.bank.shards import partition_of
from scuba_ray.protocols import BadRow, Chunk, Resources, StageOutput
from scuba_ray.tables.columns import matrix, numbers, table_of, vectors
from scuba_ray.tables.schemas import PARTITIONS, bank_schema

REASONS = {
    "unreadable": "its index is -1: the picture could not be read when it was embedded (the published pool keeps it, as black)",
    "not finite": "its embedding is not finite",
    "zero": "its embedding is zero: it has no direction",
    "not unit": "its norm is not 1, while the embeddings were taken to be unit vectors",
    "no norm": "the norm given for it is no number above 0",
    "beyond float16": "its embedding does not fit float16, in which a bank is stored",
}
"""Why a row is not in the bank, by the kind that a shard's statistics count; a row has the first that holds."""
LOOSE = 1e-2
"""Rows of unit vectors may be this far from length 1; those sampled were within a tenth of it."""
IMPORTED = b"imported"
"""Key of a shard's schema metadata: digest of the first array that was imported."""


@dataclass(frozen=True, kw_only=True)
class ImportBank:
    """Embeddings that another program made, as shards sorted by (partition, image_id)."""

    embeddings: Embeddings
    norms: Norms
    collection: str
    backbone: str
    """Name of the backbone; `shard` says which it is."""
    shard: Mapping[bytes, bytes]
    """What the schema of every shard says: `bank.shards.shard_metadata` of the backbone, and `IMPORTED`."""
    resources: Resources

    name = "bank-import"
    version = 1
    table = "bank"
    input_columns = ("image_id", "uri", "readable", "embedding", "given_norm")

    @property
    def input_name(self) -> str:
        return f"embeddings in the layout {self.embeddings.layout}"

    def fingerprint(self) -> Mapping[str, Any]:
        shard = {key.decode(): value.decode() for key, value in self.shard.items()}
        about = {"constant": self.norms.constant, "prefix": self.embeddings.prefix, "layout": self.embeddings.layout}
        return {"shard": shard, "collection": self.collection, **about}

    def setup(self) -> None: ...

    def read(self, chunk: Chunk) -> pa.Table:
        """Rows of the arrays, with the norm given for each: `chunk * dim * itemsize` bytes."""
        norm_N = self.norms.read(chunk.start, chunk.stop)
        given = pa.nulls(chunk.stop - chunk.start, pa.float32()) if norm_N is None else pa.array(norm_N)
        return self.embeddings.read(chunk.start, chunk.stop).append_column("given_norm", given)

    def __call__(self, rows: pa.Table) -> StageOutput:
        """Peak memory beside the rows: `chunk * dim * 10` bytes."""
        with np.errstate(over="ignore", invalid="ignore"):
            raw_ND = matrix(rows["embedding"]).astype(np.float32)
            norm_N = np.linalg.norm(raw_ND, axis=1)
            why = {"unreadable": ~rows["readable"].to_numpy(), "not finite": ~np.isfinite(norm_N), "zero": norm_N == 0}
            if str(self.norms) != "raw":
                given_N = rows["given_norm"].to_numpy()
                why |= {"not unit": abs(norm_N - 1) > LOOSE, "no norm": ~(np.isfinite(given_N) & (given_N > 0))}
                raw_ND *= (given_N / norm_N)[:, None]
                norm_N = given_N
            half_ND = raw_ND.astype(np.float16)
        why["beyond float16"] = ~np.isfinite(half_ND).all(axis=1) | (half_ND == 0).all(axis=1)
        kind_N = np.select(list(why.values()), list(why), "")
        keep_N = np.flatnonzero(kind_N == "")
        bad_N = np.flatnonzero(kind_N != "")
        bad = [BadRow(f"image_id={rows['image_id'][row].as_py()}", REASONS[kind_N[row]]) for row in bad_N.tolist()]
        names = rows.select(["image_id", "uri"]).take(keep_N)
        columns = {
            "backbone": self.backbone,
            "image_id": names["image_id"],
            "embedding": vectors(half_ND[keep_N]),
            "norm": numbers(norm_N[keep_N]),
            "source": self.collection,
            "uri": names["uri"],
            "partition": np.array([partition_of(image) for image in names["image_id"].to_pylist()], np.uint8),
        }
        table = table_of(bank_schema(half_ND.shape[1]), columns)
        table = table.take(pc.sort_indices(table, [("partition", "ascending"), ("image_id", "ascending")]))
        about = {NORMS: str(self.norms).encode(), STATISTICS: self._statistics(table, kind_N)}
        return StageOutput(table.replace_schema_metadata({**self.shard, **about}), tuple(bad))

    def _statistics(self, table: pa.Table, kind_N: npt.NDArray[np.str_]) -> bytes:
        """What a shard says of its rows, as JSON."""
        norm_N, rows = table["norm"].to_numpy(), table.num_rows
        statistics = {
            "pictures": len(kind_N),
            "rows": rows,
            "bad": Counter(kind for kind in kind_N.tolist() if kind),
            "norm_mean": float(norm_N.mean()) if rows else None,
            "norm_sd": float(norm_N.std()) if rows else None,
            "partitions": np.bincount(table["partition"].to_numpy(), minlength=PARTITIONS).tolist(),
            "precision": f"imported {self.embeddings.dtype}",
        }
        return json.dumps(statistics).encode()
