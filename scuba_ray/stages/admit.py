"""admit: the pictures of a collection, minus those that the bank has already. Runs in the driver: it needs all of them at once.

Two pictures are the same if their bytes have the same digest; the first one stays. Ids must differ throughout a bank: projections
name their nearest pictures by id. Memory: 16 bytes for each picture of the folder (its digest, then its id's), half as much again
while a sixteenth of them is sorted, and some 200 bytes for each picture that is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.bank.listings import name_of
from scuba_ray.bank.shards import collection_of
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import BadRow, Chunk, Resources, StageOutput
from scuba_ray.tables.schemas import PICTURES
from scuba_ray.tables.store import RunFolder

ADMIT_CHUNK = 16384
"""Pictures per part of the table `admitted`: a few MB, for workers that embed read slices of it."""
_READ = 1 << 18
"""Rows of `pictures` read at once."""
_BUCKETS = 16
_SAME_ID = "a second picture with this id; the first one stays"
_NAMED = 3
"""Pictures that an error names."""


@dataclass(frozen=True)
class Repeats:
    """Which rows of a collection repeat an earlier one: `row_R` in order, and where in the folder each came first."""

    row_R: npt.NDArray[np.int64]
    first_R: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Admit:
    """The pictures of `collection` that do not repeat one before them, in it or in the collections `earlier`, in their order.

    Of embeddings that were `imported` (units of the table `bank`) ids alone are known.
    """

    run: RunFolder
    collection: str
    earlier: tuple[str, ...]
    imported: tuple[str, ...]
    duplicates: Literal["drop", "keep"]
    resources: Resources

    name = "admit"
    version = 1
    table = "admitted"
    input_columns = (*PICTURES.names, "row")

    @property
    def input_name(self) -> str:
        return f"pictures of {self.collection}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"duplicates": self.duplicates}

    def setup(self) -> None:
        _ = self._left_out

    def read(self, chunk: Chunk) -> pa.Table:
        rows = self.run.slice("pictures", self.collection, chunk.start, chunk.stop)
        return rows.append_column("row", pa.array(np.arange(chunk.start, chunk.stop)))

    def __call__(self, rows: pa.Table) -> StageOutput:
        row_R, reasons = self._left_out
        row_N = rows["row"].to_numpy()
        out_N = np.isin(row_N, row_R)
        why = reasons.take(pa.array(np.searchsorted(row_R, row_N[out_N]))).to_pylist()
        left_out = rows["image_id"].filter(pa.array(out_N)).to_pylist()
        bad = tuple(BadRow(f"image_id={one}", reason) for one, reason in zip(left_out, why, strict=True))
        return StageOutput(rows.drop_columns(["row"]).filter(pa.array(~out_N)), bad)

    @cached_property
    def _left_out(self) -> tuple[npt.NDArray[np.int64], pa.Array]:
        """Rows that are left out, in order, and why.

        Raises
        ------
        ConfigError
            If another collection has pictures of the same ids.
        """
        copies, reasons = Repeats(np.empty(0, np.int64), np.empty(0, np.int64)), pa.array([], pa.string())
        if self.duplicates == "drop":
            copies = self._repeats("digest", lambda values: np.frombuffer(bytes.fromhex("".join(values)), "<u8"))
            ids, owners = self._origins("digest", copies.first_R)
            reasons = pa.array(
                [f"a duplicate: the same bytes as {one} (collection {owner})" for one, owner in zip(ids, owners, strict=True)],
                pa.string(),
            )
        same = self._repeats("image_id", _hashes)
        new_R = ~np.isin(same.row_R, copies.row_R)
        self._refuse_foreign(same.first_R[new_R])
        row_R = np.concatenate([copies.row_R, same.row_R[new_R]])
        reasons = pa.concat_arrays([reasons, pa.repeat(_SAME_ID, int(new_R.sum()))])
        order_R = np.argsort(row_R)
        return row_R[order_R], reasons.take(pa.array(order_R))

    def _refuse_foreign(self, first_R: npt.NDArray[np.int64]) -> None:
        """Raise ConfigError if one of the pictures, whose ids came again, is of another collection."""
        mine = name_of(self.collection)
        foreign = [(one, owner) for one, owner in zip(*self._origins("image_id", first_R), strict=True) if name_of(owner) != mine]
        if foreign:
            named = ", ".join(f"{one} (collection {owner})" for one, owner in foreign[:_NAMED])
            raise ConfigError(
                f"{len(foreign)} ids of pictures of {mine} are those of other pictures in this bank: {named}; "
                f"give this collection's ids a --prefix, such as --prefix {mine}/"
            )

    # ------------------------------------------------------------------------------------------ what came before

    def _repeats(self, column: str, halves: Callable[[Sequence[str]], npt.NDArray[np.uint64]]) -> Repeats:
        """Rows of this collection whose `column`, as the 128 bits that `halves` makes of it, came before."""
        *others, mine = self._units(column)
        before = sum(rows for *_, rows in others)
        key_N2 = np.empty((before + mine[-1], 2), np.uint64)
        for offset, _, table in self._tables(column, column):
            key_N2[offset : offset + len(table)] = halves(table[column].to_pylist()).reshape(-1, 2)
        rows, firsts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        bucket_N = (key_N2[:, 0] >> np.uint64(60)).astype(np.uint8)
        for bucket in range(_BUCKETS):
            mine_B = np.flatnonzero(bucket_N == bucket)
            order_B = np.lexsort((key_N2[mine_B, 1], key_N2[mine_B, 0]))  # stable: equal keys stay in the order they came
            mine_B, sorted_B2 = mine_B[order_B], key_N2[mine_B[order_B]]
            begins_B = np.ones(len(mine_B), dtype=bool)
            begins_B[1:] = (sorted_B2[1:] != sorted_B2[:-1]).any(axis=1)
            first_B = mine_B[np.maximum.accumulate(np.where(begins_B, np.arange(len(mine_B)), 0))]
            repeats_B = ~begins_B & (mine_B >= before)
            rows.append(mine_B[repeats_B] - before)
            firsts.append(first_B[repeats_B])
        row_R, first_R = np.concatenate(rows), np.concatenate(firsts)
        order_R = np.argsort(row_R)
        return Repeats(row_R[order_R], first_R[order_R])

    def _origins(self, column: str, first_R: npt.NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """Ids and collections of pictures by their place among those with `column`; one pass over the ids, however many."""
        ids = np.empty(len(first_R), dtype=object)
        owners = np.empty(len(first_R), dtype=object)
        if len(first_R):
            for offset, collection, table in self._tables(column, "image_id"):
                here_R = np.flatnonzero((first_R >= offset) & (first_R < offset + len(table)))
                if len(here_R):
                    ids[here_R] = table["image_id"].take(pa.array(first_R[here_R] - offset)).to_pylist()
                    owners[here_R] = collection
        return ids.tolist(), owners.tolist()

    def _units(self, column: str) -> list[tuple[str, str, str, int]]:
        """Where pictures with `column` are, this collection's last: table, key, collection and rows."""
        units = [("bank", key, collection_of(key)) for key in self.imported] if column == "image_id" else []
        units += [("pictures", collection, collection) for collection in (*self.earlier, self.collection)]
        return [(table, key, collection, self.run.rows(table, key)) for table, key, collection in units]

    def _tables(self, column: str, wanted: str) -> Iterator[tuple[int, str, pa.Table]]:
        """The column `wanted` of all pictures with `column`, piece by piece: place of the first one, collection, table."""
        offset = 0
        for table, key, collection, rows in self._units(column):
            for start in range(0, rows, _READ):
                yield offset + start, collection, self.run.slice(table, key, start, min(start + _READ, rows), [wanted])
            offset += rows


def _hashes(values: Sequence[str]) -> npt.NDArray[np.uint64]:
    """128 bits of each text: no two of any number of ids share them but by a chance of 1e-20."""
    return np.frombuffer(b"".join(hashlib.blake2b(value.encode(), digest_size=16).digest() for value in values), "<u8")
