"""One Parquet table of pictures: which column holds them, which one names them, and its row groups, decoded in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scuba_ray.datasets.locations import Location
from scuba_ray.errors import ConfigError, DataError

BYTES = ("image", "bytes", "jpg", "png")
"""Columns that hold pictures as bytes; so does any struct column with a field `bytes` (Hugging Face's `{bytes, path}`)."""
PATHS = ("path", "image_path", "uri", "url")
"""Columns of paths, looked for where no column holds bytes."""
IDS = ("image_id", "key", "id")
"""Columns of ids; the first of these that is there, as text or whole numbers, counts."""

_REQUEST = 8 << 20
"""Bytes read at a time."""
_BATCH_BYTES, _BATCH_ROWS = 64 << 20, 4096
"""About so much is decoded at a time."""
# what pyarrow raises on damaged files; OSError among it
_DAMAGED = (pa.ArrowException, OSError, ValueError, OverflowError)


@dataclass(frozen=True)
class Columns:
    """The columns of one table that are read."""

    pictures: str
    in_struct: bool
    are_paths: bool
    ids: str | None

    @property
    def picture_leaf(self) -> str:
        """The pictures' column as Parquet names it."""
        return f"{self.pictures}.bytes" if self.in_struct else self.pictures

    def picture_values(self, batch: pa.RecordBatch) -> pa.Array:
        """The bytes or paths of some rows."""
        column = batch.column(self.pictures)
        return pc.struct_field(column, "bytes") if self.in_struct else column


def find_columns(schema: pa.Schema, table: str) -> Columns:
    """The columns of a table, by name (in any case) and type.

    Raises
    ------
    ConfigError
        If no column can hold pictures, or several can.
    """
    ids = [field.name for name in IDS for field in schema if field.name.lower() == name and _names(field.type)]
    structs = {field.name for field in schema if _is_struct(field.type)}
    found = [field.name for field in schema if field.name.lower() in BYTES and _is_binary(field.type)]
    found += [field.name for field in schema if field.name in structs]
    are_paths = not found
    if are_paths:
        found = [field.name for field in schema if field.name.lower() in PATHS and _is_text(field.type)]
    if len(found) == 1:
        return Columns(found[0], found[0] in structs, are_paths, ids[0] if ids else None)
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if found:
        raise ConfigError(
            f"{table}: pictures could be in any of the columns {', '.join(found)}; keep one of them. Columns: {there}"
        )
    raise ConfigError(
        f"{table}: no column holds pictures. Wanted: bytes in one of {', '.join(BYTES)} or in a struct's field `bytes`, or paths "
        f"in one of {', '.join(PATHS)}. Columns: {there}"
    )


class ParquetTable:
    """One Parquet file, open. Raises DataError where it is damaged, OSError where disk or network fail."""

    def __init__(self, location: Location, name: str) -> None:
        self.name = name
        self._location = location
        file = location.open(name)
        try:
            # buffered reads, not `pre_buffer`, which holds all of a row group's bytes
            self._file = pq.ParquetFile(file, pre_buffer=False, buffer_size=_REQUEST, page_checksum_verification=True)
            metadata = self._file.metadata
            schema = self._file.schema_arrow
            groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        except _DAMAGED as error:
            raise self._damage("its footer", error) from error
        self._rows = [group.num_rows for group in groups]
        self.sizes = [group.total_byte_size for group in groups]
        self.columns: Columns = find_columns(schema, f"{name} in {location.path}")

    def first_row(self, group: int) -> int:
        """The number of the group's first row in the table."""
        if group >= len(self._rows):
            raise DataError(f"{self.name} in {self._location.path} has {len(self._rows)} row groups, and no number {group}")
        return sum(self._rows[:group])

    def rows(self, group: int) -> int:
        """Rows of a row group."""
        rows: int = self._rows[group]
        return rows

    def ids(self, group: int) -> list[str] | None:
        """The ids in a row group, None where no column holds them. No picture is read."""
        if self.columns.ids is None:
            return None
        try:
            return [str(one) for one in self._file.read_row_group(group, columns=[self.columns.ids])[0].to_pylist()]
        except _DAMAGED as error:
            raise self._damage(f"the ids of row group {group}", error) from error

    def batches(self, group: int, with_ids: bool) -> Iterator[pa.RecordBatch]:
        """The picture column of a row group, and the ids' if wanted: 64 MiB at a time, or a page where pages are larger."""
        self.first_row(group)
        wanted = [self.columns.picture_leaf, *([self.columns.ids] if with_ids and self.columns.ids else [])]
        rows = _BATCH_BYTES * max(self._rows[group], 1) // max(self.sizes[group], 1)
        done = 0
        try:
            for batch in self._file.iter_batches(min(max(rows, 1), _BATCH_ROWS), [group], wanted, use_threads=False):
                yield batch
                done += len(batch)
        except _DAMAGED as error:
            raise self._damage(f"row group {group} from row {done} on", error) from error

    def pictures(self, group: int) -> pa.ChunkedArray:
        """The pictures of a row group, as bytes, as far as it can be read."""
        kind, arrays = pa.binary(), []
        try:
            for batch in self.batches(group, with_ids=False):
                arrays.append(self.columns.picture_values(batch))
                kind = arrays[0].type
        except DataError:
            if not arrays:
                raise
        return pa.chunked_array(arrays, kind)

    def _damage(self, what: str, error: Exception) -> DataError:
        """pyarrow says OSError for damage too: it is damage if the file's bytes can be read."""
        with self._location.stream(self.name, _REQUEST) as stream:
            while stream.read(_REQUEST):
                pass
        return DataError(f"damaged: {what} cannot be read: {error}")


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or (pa.types.is_dictionary(kind) and _is_text(kind.value_type))
    )


def _names(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _is_struct(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and any(field.name == "bytes" and _is_binary(field.type) for field in kind)
