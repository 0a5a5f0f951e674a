"""One part: the Parquet file a worker writes for one chunk, named by what made it, checked page by page when read.

A unit is one table for one key (a subject and a backbone). Its parts are `RUN/<table>/<key>-<chunk>-<fingerprint>.parquet`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.errors import DataError
from scuba_ray.protocols import BadRow, Chunk, Receipt
from scuba_ray.tables import files
from scuba_ray.tables.manifest import PartEntry
from scuba_ray.tables.schemas import QUARANTINE

QUARANTINE_FOLDER = "quarantine"
_DIGITS = 12
"""Hexadecimal digits of the fingerprint in a file's name; the whole one is inside the file."""
_ORIGIN = b"scuba_ray"
_RETRY = b"retry"
"""In a quarantine file: how many of its rows the next run tries again."""
ROW_GROUP = b"row_group"
"""In a table's metadata: rows that lie together in its part and are read without the others. Without it they are one group."""


def slug(key: str) -> str:
    """A unit's key as part of a file name, one to one: `subj01/phantom` is `subj01@phantom`; never starts with `.` or `_`."""
    text = quote(key, safe="").replace("%2F", "@")
    return f"@{text}" if text[:1] in {".", "_"} else text


def key_of(name: str) -> str | None:
    """The key of the unit that a file of a table's folder is a part of, finished or not; none of another file."""
    match = re.fullmatch(rf"(.+)-\d{{5,}}-[0-9a-f]{{{_DIGITS}}}\.parquet", name)
    return match and unquote(match[1].removeprefix("@").replace("@", "/"))


@dataclass(frozen=True)
class Unit:
    """One table for one key in one generation: what workers need to write their part of it."""

    location: str
    step: str
    table: str
    key: str
    fingerprint: str

    def part_name(self, chunk: Chunk) -> str:
        """File name of a chunk's part, inside the table's folder."""
        return f"{slug(self.key)}-{chunk.index:05d}-{self.fingerprint[:_DIGITS]}.parquet"

    def quarantine_name(self, chunk: Chunk) -> str:
        """File name, in the quarantine folder, of a chunk's rows that could not be computed."""
        return f"{self.step}-{self.part_name(chunk)}"

    def write(self, chunk: Chunk, table: pa.Table, bad: Sequence[BadRow] = ()) -> PartEntry:
        """Write a chunk's part, and before it the rows that could not be computed, so none is lost without a word.

        Returns its manifest entry, so that nobody need read it back.
        """
        quarantine = f"{QUARANTINE_FOLDER}/{self.quarantine_name(chunk)}"
        if bad:
            rows = [{"step": self.step, "unit": self.key, "key": row.key, "reason": row.reason} for row in bad]
            schema = QUARANTINE.with_metadata({_RETRY: str(sum(row.retry for row in bad))})
            files.write(self.location, quarantine, encode(pa.Table.from_pylist(rows, schema), self._origin(chunk)))
        else:
            files.delete(self.location, quarantine)
        data = encode(table, self._origin(chunk))
        files.write(self.location, f"{self.table}/{self.part_name(chunk)}", data)
        return self._entry(chunk, table.num_rows, data)

    def entry(self, receipt: Receipt) -> PartEntry:
        """The manifest entry of a part whose writer said what it wrote."""
        chunk = receipt.chunk
        return PartEntry(self.part_name(chunk), chunk.index, chunk.start, chunk.stop, receipt.rows, receipt.bytes, receipt.sha256)

    def examine(self, chunk: Chunk) -> PartEntry:
        """Read a chunk's part as a whole, every page against its checksum, and return its manifest entry.

        Raises
        ------
        DataError
            If the part is absent, damaged, or was made from another range of rows.
        """
        name = self.part_name(chunk)
        try:
            data = files.read(self.location, f"{self.table}/{name}")
        except FileNotFoundError as error:
            raise DataError(f"{self.table}/{name} is missing") from error
        table = decode(data, f"{self.table}/{name}")
        if (table.schema.metadata or {}).get(_ORIGIN) != self._origin(chunk):
            raise DataError(f"{self.table}/{name} was made from other rows than [{chunk.start}, {chunk.stop})")
        return self._entry(chunk, table.num_rows, data)

    def _entry(self, chunk: Chunk, rows: int, data: bytes) -> PartEntry:
        digest = hashlib.sha256(data).hexdigest()
        return PartEntry(self.part_name(chunk), chunk.index, chunk.start, chunk.stop, rows, len(data), digest)

    def matches(self, entry: PartEntry) -> bool:
        """Whether the part a manifest names is there, to the bit. Ten times faster than reading it as a table."""
        try:
            data = files.read(self.location, f"{self.table}/{entry.name}")
        except OSError:
            return False
        return len(data) == entry.bytes and hashlib.sha256(data).hexdigest() == entry.sha256

    def owns(self, name: str) -> bool:
        """Whether a file of the table's folder is a part of this key, of any generation."""
        return re.fullmatch(rf"{re.escape(slug(self.key))}-\d{{5,}}-[0-9a-f]{{{_DIGITS}}}\.parquet", name) is not None

    def is_current(self, name: str) -> bool:
        """Whether a part of this key is of this generation."""
        return name.endswith(f"-{self.fingerprint[:_DIGITS]}.parquet")

    def _origin(self, chunk: Chunk) -> bytes:
        origin = {
            "step": self.step,
            "key": self.key,
            "fingerprint": self.fingerprint,
            "chunk": [chunk.index, chunk.start, chunk.stop],
        }
        return json.dumps(origin).encode()


def encode(table: pa.Table, origin: bytes) -> bytes:
    """A table as the bytes of a Parquet file: zstd, page checksums, dictionaries for text only (vectors never repeat).

    In a table of float16 vectors the vectors stay uncompressed (zstd takes 9 % off them, and reading takes a quarter longer).
    Lists have no statistics: nobody looks for a vector between two others.
    """
    text = [field.name for field in table.schema if pa.types.is_string(field.type)]
    text += [f"{f.name}.list.element" for f in table.schema if pa.types.is_list(f.type) and pa.types.is_string(f.type.value_type)]
    plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    halves = any(pa.types.is_fixed_size_list(f.type) and pa.types.is_float16(f.type.value_type) for f in table.schema)
    metadata = table.schema.metadata or {}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({**metadata, _ORIGIN: origin}),
        sink,
        row_group_size=int(metadata[ROW_GROUP]) if ROW_GROUP in metadata else None,
        compression=dict.fromkeys(plain, "zstd") if halves else "zstd",
        use_dictionary=text,
        write_statistics=plain,
        write_page_checksum=True,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(data: bytes, name: str) -> pa.Table:
    """The table in the bytes of a part, its metadata kept. Raises DataError if any page is damaged."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{name} is damaged: {error}") from error
    return table


def count(location: str, name: str) -> int:
    """Rows of the part `name` (`table/file`), from its last bytes. Raises DataError if it cannot be read."""
    return int(_footer(location, name).num_rows)


def retries(location: str, name: str) -> int:
    """How many rows of a quarantine file the next run tries again, from its last bytes. Raises DataError like `count`."""
    return int((_footer(location, name).metadata or {}).get(_RETRY, 0))


def _footer(location: str, name: str) -> pq.FileMetaData:
    source, root = files.filesystem(location)
    try:
        with source.open_input_file(f"{root}/{name}") as file:
            return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{location}/{name} cannot be read: {error}; delete it and run again") from error


def load(location: str, name: str, columns: Sequence[str] | None, rows: tuple[int, int] | None = None) -> pa.Table:
    """Read some columns of the part `name` (`table/file`), in the order asked for, without our metadata.

    With `rows` only those from the first up to, not including, the second; row groups without any of them are not read.

    Raises
    ------
    DataError
        If the part is absent or damaged, or has no such column.
    """
    source, root = files.filesystem(location)
    try:
        with source.open_input_file(f"{root}/{name}") as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            unknown = [column for column in columns or () if column not in parquet.schema_arrow.names]
            if unknown:
                raise DataError(f"{name} has no column {unknown[0]!r}; columns: {', '.join(parquet.schema_arrow.names)}")
            wanted = None if columns is None else list(columns)
            table = parquet.read(wanted) if rows is None else _between(parquet, wanted, *rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{location}/{name} cannot be read: {error}; running again remakes it, if it is deleted first") from error
    if columns is not None:
        table = table.select(list(columns))
    return table.replace_schema_metadata(None)


def _between(parquet: pq.ParquetFile, columns: list[str] | None, first: int, last: int) -> pa.Table:
    """Rows `[first, last)`, from the row groups they lie in."""
    groups, before, offset = [], 0, 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if offset + rows <= first:
            before += rows
        elif offset < last:
            groups.append(group)
        offset += rows
    return parquet.read_row_groups(groups, columns).slice(first - before, last - first)
