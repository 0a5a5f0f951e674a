"""Pictures in Parquet tables: as bytes (Hugging Face, img2dataset), or as paths to files that lie elsewhere."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import PurePosixPath
from threading import Lock

import pyarrow as pa

from scuba_ray.datasets.content import picture_digest, spread_digest, text_digest
from scuba_ray.datasets.locations import Location, read_picture
from scuba_ray.datasets.parquet_tables import ParquetTable
from scuba_ray.datasets.scanning import Scan, files_table
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import BadRow
from scuba_ray.tables.files import is_uri

_HELD = 2
"""Decoded row groups kept for `read`: readers side by side pass from one to the next at different moments."""
_FOOTERS = 16
"""Footers opened side by side."""
_SAMPLED = 64
_GROUP = re.compile(r"(.+)#rg(\d{1,9})", re.DOTALL)
_ROW = re.compile(r"(.+)#rg(\d{1,9}):(\d{1,18})", re.DOTALL)


class ParquetImages:
    """All pictures in the `.parquet` files below a folder (or in one file), in the order of the files and of their rows.

    Columns: see `parquet_tables`. Paths are absolute, URIs, or relative to the folder of their table; addresses on the web are
    refused. `image_id` is the id column's value, else `TABLE#ROW`. `uri` is `TABLE#rgGROUP:ROW` (row in its row group), or the
    picture's path. Picklable and safe for threads; `read` keeps two decoded row groups in memory.

    Raises
    ------
    ConfigError
        If there is nothing at the path.
    """

    def __init__(self, path: str) -> None:
        self._location = Location(path)
        self._lock = Lock()
        self._held: OrderedDict[tuple[str, int], _Held] = OrderedDict()

    def __reduce__(self) -> tuple[type[ParquetImages], tuple[str]]:
        return ParquetImages, (self._location.path,)

    def fingerprint(self) -> str:
        """Of the tables' names and sizes and 256 blocks of 64 KiB spread over them; of 64 pictures, where tables hold paths."""
        tables = spread_digest(self._location.files({".parquet"}), self._location.read_at)
        groups = [name for name, _ in self._groups]
        places = {index * (len(groups) - 1) // (_SAMPLED - 1) for index in range(_SAMPLED)} if groups else set()
        return text_digest(tables, *(self._sample(groups[place]) for place in sorted(places)))

    def files(self) -> pa.Table:
        """Columns name and bytes (decoded), a row per row group: `TABLE#rgGROUP`. Opens every table's footer, 16 at a time.

        A table whose footer cannot be read has one row, its own name, which `scan` answers with a bad row.

        Raises
        ------
        ConfigError
            If a table's columns are ambiguous or missing, or the first picture is an address on the web.
        DataError
            If there are no tables, or no rows in them.
        """
        first = self._first(self._groups[0][0]) if self._groups else ""
        if _is_web(first):
            raise ConfigError(f"{self._location.path}: {_web(first)}")
        return files_table(self._groups, self._location.path, "Parquet files with rows")

    def scan(self, names: Sequence[str]) -> tuple[pa.Table, list[BadRow]]:
        """The pictures in the row groups `names`, decoded 64 MiB at a time.

        An id that is null or has come before in these row groups makes its picture a bad row. Where a row group is damaged, the
        rows before are used and a bad row `file=...` says what is wrong.
        """
        scan = Scan()
        for name in names:
            try:
                found = _GROUP.fullmatch(name)
                table = ParquetTable(self._location, found[1] if found else name)
                if found is None:
                    raise DataError("it has no such row group")
                self._scan_group(table, int(found[2]), scan)
            except (ConfigError, DataError) as error:
                scan.damaged(name, str(error))
        return scan.result()

    def read(self, uri: str) -> bytes:
        """Bytes of one picture. Reads that follow each other in a row group decode it once.

        Raises
        ------
        DataError
            If the uri is none of `scan`, the table has changed, or a path leads nowhere, out of the folder or to the web.
        OSError
            If the disk or network fails.
        """
        place = _ROW.fullmatch(uri)
        if place is None:
            return self._read_path(uri)
        pictures = self._group(place[1], int(place[2]))
        row = int(place[3])
        data = pictures[row].as_py() if row < len(pictures) else None
        if not isinstance(data, bytes):
            raise DataError(f"{place[1]} in {self._location.path} has changed since it was scanned: there is no picture {uri!r}")
        return data

    @cached_property
    def _groups(self) -> list[tuple[str, int]]:
        def footer(file: tuple[str, int]) -> list[tuple[str, int]]:
            try:
                table = ParquetTable(self._location, file[0])
            except DataError:
                return [file]
            return [(f"{table.name}#rg{group:05d}", size) for group, size in enumerate(table.sizes)]

        files = self._location.files({".parquet"})
        with ThreadPoolExecutor(_FOOTERS) as threads:
            return sorted(group for groups in threads.map(footer, files) for group in groups)

    def _scan_group(self, table: ParquetTable, group: int, scan: Scan) -> None:
        columns, start, row = table.columns, table.first_row(group), 0
        for batch in table.batches(group, with_ids=True):
            pictures = columns.picture_values(batch)
            for index in range(len(batch)):
                image_id = f"{table.name}#{start + row}"
                try:
                    if columns.ids is not None:
                        value = batch.column(columns.ids)[index].as_py()
                        if value is None:
                            raise DataError(f"its id, column {columns.ids!r}, is null")
                        image_id = str(value)
                    value = pictures[index].as_py()
                    if value is None:
                        raise DataError(f"nothing in column {columns.picture_leaf!r}")
                    uri = _beside(table.name, value) if columns.are_paths else f"{table.name}#rg{group:05d}:{row}"
                    scan.add(image_id, uri, self._read_path(uri) if columns.are_paths else value)
                except UnicodeDecodeError:
                    scan.refuse(image_id, "its id or path is not UTF-8")
                except DataError as error:
                    scan.refuse(image_id, str(error))
                row += 1

    def _read_path(self, uri: str) -> bytes:
        if _is_web(uri):
            raise DataError(_web(uri))
        if is_uri(uri) or PurePosixPath(uri).is_absolute():
            return read_picture(uri)
        return self._location.read(uri)

    def _first(self, name: str) -> str:
        """The first path in a row group; empty if it has none that can be read, or holds bytes."""
        found = _GROUP.fullmatch(name)
        try:
            table = ParquetTable(self._location, found[1] if found else name)
            batch = next(table.batches(int(found[2]), with_ids=False), None) if found and table.columns.are_paths else None
            path = table.columns.picture_values(batch)[0].as_py() if batch else None
        except (DataError, UnicodeDecodeError):
            return ""
        return _beside(table.name, path) if path else ""

    def _sample(self, group: str) -> str:
        """The digest of a row group's first picture, where it holds paths."""
        first = self._first(group)
        try:
            return picture_digest(self._read_path(first)) if first else ""
        except DataError as error:
            return type(error).__name__

    def _group(self, name: str, group: int) -> pa.ChunkedArray:
        with self._lock:
            held = self._held.pop((name, group), None) or _Held()
            self._held[name, group] = held
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        with held.lock:
            if held.pictures is None:
                held.pictures = ParquetTable(self._location, name).pictures(group)
            return held.pictures


class _Held:
    """A row group that is decoded once, by the first reader who wants it, while others wait."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.pictures: pa.ChunkedArray | None = None


def _beside(table: str, path: str) -> str:
    """A path in a table, as seen from the source's folder if it is relative."""
    if is_uri(path) or PurePosixPath(path).is_absolute():
        return path
    return (PurePosixPath(table).parent / path).as_posix()


def _is_web(uri: str) -> bool:
    return uri.lower().startswith(("http://", "https://"))


def _web(uri: str) -> str:
    return f"{uri!r} is an address on the web and not fetched: download with img2dataset first, then use source webdataset"
