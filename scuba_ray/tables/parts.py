"""One part: the Parquet file a worker writes for one chunk, named by what made it, checked page by page when read.

A unit is one table for one key (a subject and a backbone). Its parts are `RUN/<table>/<key>-<chunk>-<fingerprint>.parquet`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.errors import DataError
from scuba_ray.protocols import BadRow, Chunk
from scuba_ray.tables import files
from scuba_ray.tables.manifest import PartEntry
from scuba_ray.tables.schemas import QUARANTINE

QUARANTINE_FOLDER = "quarantine"
_DIGITS = 12
"""Hexadecimal digits of the fingerprint in a file's name; the whole one is inside the file."""
_ORIGIN = b"scuba_ray"


def slug(key: str) -> str:
    """A unit's key as part of a file name, one to one: `subj01/phantom` is `subj01@phantom`; never starts with `.` or `_`."""
    text = quote(key, safe="").replace("%2F", "@")
    return f"@{text}" if text[:1] in {".", "_"} else text


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

    def write(self, chunk: Chunk, table: pa.Table, bad: Sequence[BadRow] = ()) -> None:
        """Write a chunk's part, and before it the rows that could not be computed, so none is lost without a word."""
        quarantine = f"{QUARANTINE_FOLDER}/{self.step}-{self.part_name(chunk)}"
        if bad:
            rows = [{"step": self.step, "unit": self.key, "key": row.key, "reason": row.reason} for row in bad]
            files.write(self.location, quarantine, encode(pa.Table.from_pylist(rows, QUARANTINE), self._origin(chunk)))
        else:
            files.delete(self.location, quarantine)
        files.write(self.location, f"{self.table}/{self.part_name(chunk)}", encode(table, self._origin(chunk)))

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
        digest = hashlib.sha256(data).hexdigest()
        return PartEntry(name, chunk.index, chunk.start, chunk.stop, table.num_rows, len(data), digest)

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
    """A table as the bytes of a Parquet file: zstd, page checksums, dictionaries for text only (vectors never repeat)."""
    text = [field.name for field in table.schema if pa.types.is_string(field.type)]
    text += [f"{f.name}.list.element" for f in table.schema if pa.types.is_list(f.type) and pa.types.is_string(f.type.value_type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), _ORIGIN: origin}),
        sink,
        compression="zstd",
        use_dictionary=text,
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


def load(location: str, name: str, columns: Sequence[str] | None) -> pa.Table:
    """Read some columns of the part `name` (`table/file`), in the order asked for, without our metadata.

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
            table = parquet.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{location}/{name} cannot be read: {error}; running the run again remakes it") from error
    if columns is not None:
        table = table.select(list(columns))
    return table.replace_schema_metadata(None)
