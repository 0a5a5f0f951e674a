"""Pictures that many share a file: by number from an HDF5 data set of pixels, by id from a Parquet table of picture files."""

from __future__ import annotations

import io
from functools import cached_property
from threading import Lock
from typing import Any

import pyarrow as pa
from PIL import Image

from scuba_ray.datasets.content import file_digest
from scuba_ray.datasets.images import FolderImages
from scuba_ray.datasets.locations import Location
from scuba_ray.datasets.parquet_tables import ParquetTable
from scuba_ray.datasets.places import Place, below, place, readable
from scuba_ray.datasets.response_files import split_key
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Pictures


class Hdf5Rows:
    """A data set of one HDF5 file whose rows are pictures, by `uri`: the row's number from 0.

    Picklable: a worker opens the file anew. One row is read at a time, whatever the file's chunks are.
    """

    missing_hint = ""
    """What to know where the file is missing."""
    key_hint = ""
    """Which setting names the data set."""
    count: int

    def __init__(self, path: str, key: str) -> None:
        self._path, self._key = place(path), key

    def __reduce__(self) -> tuple[type[Hdf5Rows], tuple[str, str]]:
        return type(self), (str(self._path), self._key)

    def fingerprint(self) -> str:
        """Of the file's size and bytes (of a large file a sample, see `file_digest`)."""
        return file_digest(self._path)

    def row(self, uri: str) -> Any:
        """One row's values. DataError if there is no such picture, OSError if the disk or network fails."""
        if not uri.isdecimal() or int(uri) >= self.count:
            raise DataError(f"{self._path} has no picture {uri!r}: they are numbered 0 to {self.count - 1}")
        return self.rows[int(uri)]

    @cached_property
    def rows(self) -> Any:
        """The data set, open. Raises DataError if the file is missing or damaged, or has none of that name."""
        import h5py

        if not self._path.is_file():
            raise DataError(f"{self._path.name} is missing in {self._path.parent}: it holds the pictures{self.missing_hint}")
        try:
            file = h5py.File(readable(self._path), "r", locking=False)  # it is only read, and network disks may refuse locks
        except StoreError:
            raise
        except OSError as error:
            raise DataError(f"{self._path} is no readable HDF5 file, or not whole: {error}") from error
        if self._key not in file:
            raise DataError(f"{self._path} has no data set {self._key!r}; it has {', '.join(file) or 'none'}{self.key_hint}")
        return file[self._key]


class Hdf5Pictures(Hdf5Rows):
    """Rows of pixels; `read` gives them as BMP, losslessly.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds no uint8 pictures under `key`.
    """

    def __init__(self, path: str, key: str) -> None:
        super().__init__(path, key)
        shape, dtype = self.rows.shape, self.rows.dtype
        if len(shape) != 4 or shape[-1] != 3 or dtype != "uint8":
            raise DataError(f"{path}: {key} is {dtype} of shape {shape}, wanted uint8 (images, height, width, 3)")
        self.count = shape[0]

    def read(self, uri: str) -> bytes:
        """One picture as BMP. DataError if there is no such picture, OSError if the disk or network fails."""
        buffer = io.BytesIO()
        Image.fromarray(self.row(uri)).save(buffer, "BMP")
        return buffer.getvalue()


class ParquetPictures:
    """Pictures of one Parquet table (columns: `parquet_tables`) by `uri`: the picture's id, or its row from 0 where
    no column holds ids.

    Picklable and safe for threads. `read` keeps one decoded row group; reads that follow each other in it decode it once.

    Raises
    ------
    ConfigError
        If there is no such table, or no column holds pictures.
    DataError
        If it is damaged, or an id is there twice.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._table = ParquetTable(Location(path), place(path).name)
        if self._table.columns.are_paths:
            raise DataError(f"{path} holds paths, wanted the pictures' bytes; name the folder of the pictures instead")
        self._lock = Lock()
        self._held: tuple[int, pa.ChunkedArray] | None = None
        groups, table = range(len(self._table.sizes)), self._table
        ids = [table.ids(group) or [str(table.first_row(group) + row) for row in range(table.rows(group))] for group in groups]
        self._places = {one: (group, row) for group, names in enumerate(ids) for row, one in enumerate(names)}
        rows = sum(map(len, ids))
        if len(self._places) < rows:
            raise DataError(
                f"{path}: column {self._table.columns.ids!r} names {rows} pictures by {len(self._places)} different ids"
            )

    def __reduce__(self) -> tuple[type[ParquetPictures], tuple[str]]:
        return ParquetPictures, (self._path,)

    def fingerprint(self) -> str:
        """Of the file's size and bytes (of a large file a sample, see `file_digest`)."""
        return file_digest(place(self._path))

    def read(self, uri: str) -> bytes:
        """Bytes of one picture. DataError if there is no such picture, OSError if the disk or network fails."""
        if uri not in self._places:
            raise DataError(
                f"{self._path} has no picture {uri!r}; it has {len(self._places)}, such as {next(iter(self._places), '')!r}"
            )
        group, row = self._places[uri]
        with self._lock:
            if self._held is None or self._held[0] != group:
                self._held = group, self._table.pictures(group)
            pictures = self._held[1]
        data = pictures[row].as_py() if row < len(pictures) else None
        if not isinstance(data, bytes):
            raise DataError(f"{self._path} has nothing where picture {uri!r} should be")
        return data


def open_pictures(root: Place, given: str) -> Pictures:
    """Pictures in a folder, in `FILE.h5:KEY` or in `FILE.parquet`.

    Raises
    ------
    ConfigError, DataError
        If there is nothing of the kind; the file is named.
    """
    name, key = split_key(given)
    path = below(root, name)
    if path.suffix.lower() in {".h5", ".hdf5"}:
        if key is None:
            raise ConfigError(f"images: {path.name} needs the name of the data set, as {path.name}:KEY")
        return Hdf5Pictures(str(path), key)
    if path.suffix.lower() == ".parquet":
        if not path.is_file():
            raise DataError(f"images: {path.name} is missing in {path.parent}")
        return ParquetPictures(str(path))
    return FolderImages(str(path))
