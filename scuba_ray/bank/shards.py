"""A bank: embedded pictures in shards, Parquet parts of the table `bank` in a run folder or in a folder of their own.

A bank is made of collections (one source given to one build), each a unit `backbone/collection` of the table. Every shard names,
in its schema's metadata, the backbone that made it; a bank of another backbone is refused by name. Rows are numbered through all
shards, units in the order of their keys; a shard's rows are sorted by (partition, image_id). Nothing is held in memory: tiles
are read as they are asked for, float16, `tile * (2 * dim + 5)` bytes and one shard's file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.bank.listings import listed
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Backbone
from scuba_ray.tables import files, manifest
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.manifest import PartEntry
from scuba_ray.tables.schemas import PARTITIONS

TABLE = "bank"
_NAME, _FINGERPRINT, _DIM = b"backbone", b"backbone_fingerprint", b"dim"
_AGAIN = "build the bank again with --verify, which makes damaged shards anew"


def partition_of(image_id: str) -> int:
    """The partition a picture belongs to, 0 to PARTITIONS - 1: the same in every bank, on every machine."""
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % PARTITIONS


def shard_metadata(backbone: Backbone) -> dict[bytes, bytes]:
    """What a shard's schema says about where it came from."""
    return {_NAME: backbone.name.encode(), _FINGERPRINT: backbone.fingerprint.encode(), _DIM: str(backbone.dim).encode()}


@dataclass(frozen=True)
class Tile:
    """Consecutive rows of a bank, from row `offset` on."""

    offset: int
    embedding_KD: npt.NDArray[np.float16]
    norm_K: npt.NDArray[np.float32]
    partition_K: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BankFolder:
    """The finished collections of one backbone at `location`. Picklable: it holds names only.

    Use `open_bank` to find the right ones and have them checked.
    """

    location: str
    backbone: str
    """Name the backbone had when the bank was built."""
    keys: tuple[str, ...]
    """Units of the table `bank` it is made of, in order."""

    @cached_property
    def shards(self) -> tuple[PartEntry, ...]:
        """Shards of all collections, in id order.

        Raises
        ------
        ConfigError
            If one of the keys is not finished.
        """
        units = manifest.load(self.location, TABLE)
        for key in self.keys:
            if key not in units:
                raise ConfigError(f"{self.location} holds no finished bank {key}; build it with scuba bank build")
        return tuple(shard for key in self.keys for shard in units[key].parts)

    @property
    def collections(self) -> tuple[str, ...]:
        """Names of the collections it is made of, in order."""
        return tuple(collection_of(key) for key in self.keys)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Collections that a build has listed in the folder and that this backbone has not embedded to the end."""
        return tuple(one.collection for one in listed(self.location) if one.collection not in self.collections)

    @property
    def rows(self) -> int:
        """Pictures in the bank."""
        return sum(shard.rows for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Of the shards' content."""
        return fingerprint(TABLE, [shard.sha256 for shard in self.shards])

    @cached_property
    def metadata(self) -> dict[str, str]:
        """`backbone`, `backbone_fingerprint` and `dim`, as the first shard states them."""
        with self.open(self.shards[0]) as file:
            return _stated(file)

    def tiles(self, tile: int) -> Iterator[Tile]:
        """All rows in order, `tile` at a time (the last tile may be shorter), however the shards were cut.

        Raises
        ------
        DataError
            If a shard is missing or damaged, or states another backbone than the first.
        """
        waiting: list[pa.Table] = []
        held = offset = 0
        for shard in self.shards:
            for batch in self._batches(shard, tile):
                waiting.append(batch)
                held += len(batch)
                while held >= tile:
                    table = pa.concat_tables(waiting)
                    yield _tile(table.slice(0, tile), offset)
                    waiting, held, offset = [table.slice(tile)], held - tile, offset + tile
        if held:
            yield _tile(pa.concat_tables(waiting), offset)

    def batches(self, start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        """Columns embedding, norm and partition of the rows `[start, stop)` in order, at most `size` at a time.

        Only the shards they lie in are opened; errors as for `tiles`.
        """
        end = 0
        for shard in self.shards:
            row, end = end, end + shard.rows
            if end <= start or row >= stop:
                continue
            for batch in (one for table in self._batches(shard, size) for one in table.to_batches()):
                low, high = max(start - row, 0), min(stop - row, len(batch))
                if low < high:
                    yield batch.slice(low, high - low)
                row += len(batch)

    def ids(self, rows: npt.NDArray[np.int64], column: str = "image_id") -> npt.NDArray[np.object_]:
        """Picture ids (or `uri`s) of rows of any shape and order, repeats allowed; reads that column of shards they lie in."""
        wanted, where = np.unique(rows, return_inverse=True)
        ends = np.cumsum([shard.rows for shard in self.shards])
        shard_of = np.searchsorted(ends, wanted, side="right")
        found = np.empty(len(wanted), dtype=object)
        for index in np.unique(shard_of):
            shard, mine = self.shards[int(index)], shard_of == index
            with self.open(shard) as file:
                values = file.read(columns=[column])[column]
            found[mine] = values.take(pa.array(wanted[mine] - (ends[index] - shard.rows))).to_numpy(zero_copy_only=False)
        ids: npt.NDArray[np.object_] = found[where].reshape(rows.shape)
        return ids

    def open(self, shard: PartEntry) -> pq.ParquetFile:
        """Open one shard; its pages are held against their checksums as they are read. Raises DataError if it cannot be."""
        source, root = files.filesystem(self.location)
        try:
            return pq.ParquetFile(f"{root}/{TABLE}/{shard.name}", filesystem=source, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.location}: shard {shard.name} cannot be read: {error}; {_AGAIN}") from error

    def _batches(self, shard: PartEntry, tile: int) -> Iterator[pa.Table]:
        try:
            with self.open(shard) as file:
                if _stated(file)[_FINGERPRINT.decode()] != self.metadata[_FINGERPRINT.decode()]:
                    raise DataError(f"{self.location}: shard {shard.name} was made with another backbone than {self.backbone}")
                for batch in file.iter_batches(batch_size=tile, columns=["embedding", "norm", "partition"]):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.location}: shard {shard.name} is damaged: {error}; {_AGAIN}") from error


def banks_at(location: str) -> list[BankFolder]:
    """The banks in a folder, one for each backbone that made shards there; none if nothing is finished."""
    location = files.normalise(location)
    units = manifest.load(location, TABLE)
    made: dict[str, BankFolder] = {}
    for key in sorted(units):
        stated = BankFolder(location, key, (key,)).metadata
        earlier = made.get(stated["backbone_fingerprint"])
        keys = (*earlier.keys, key) if earlier else (key,)
        made[stated["backbone_fingerprint"]] = BankFolder(location, stated["backbone"], keys)
    return list(made.values())


def open_bank(location: str, backbone: Backbone) -> BankFolder:
    """Find the bank that `backbone` made in `location`, under whatever name: all its finished collections.

    Raises
    ------
    ConfigError
        If there is no bank, it has no rows, or it was made with other backbones: the message names them.
    """
    location = files.normalise(location)
    banks = banks_at(location)
    if not banks:
        raise ConfigError(f"there is no finished bank at {location}; build one with `scuba bank build --out {location}`")
    for bank in banks:
        if bank.metadata["backbone_fingerprint"] == backbone.fingerprint:
            if not bank.rows:
                raise ConfigError(f"the bank at {location} holds no pictures: every one of them is in its quarantine table")
            return bank
    made = ", ".join(f"{bank.metadata['backbone']} ({bank.metadata['backbone_fingerprint']})" for bank in banks)
    raise ConfigError(
        f"the bank at {location} was made with {made}, this run reads {backbone.name} ({backbone.fingerprint}); "
        "embeddings of different backbones cannot be compared: build a bank with this one"
    )


def unit_key(backbone: str, collection: str) -> str:
    """The unit of the table `bank` that a backbone makes of a collection."""
    return f"{backbone}/{collection}"


def collection_of(key: str) -> str:
    """The collection a unit of the table `bank` was made of."""
    return key.partition("/")[2]


def _stated(file: pq.ParquetFile) -> dict[str, str]:
    stated = file.schema_arrow.metadata or {}
    if _FINGERPRINT not in stated:
        raise DataError("a bank shard does not state its backbone: it was not written by scuba_ray")
    return {key.decode(): stated[key].decode() for key in (_NAME, _FINGERPRINT, _DIM)}


def _tile(table: pa.Table, offset: int) -> Tile:
    columns: Sequence[Any] = [table[name].to_numpy() for name in ("norm", "partition")]
    return Tile(offset, matrix(table["embedding"]), *columns)
