"""Arrays in .npy files: memory-mapped on a disk, read by ranges from a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.places import Place
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.datasets.store_paths import StorePath
from scuba_ray.errors import DataError

_PIECE = 32 << 20
"""Bytes of rows that are held while their columns are picked."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
Rows = slice | npt.NDArray[np.int64]


class StoredArray:
    """An array of one or two axes on a store, sliced like one in memory. Rows lie together: a run of them is one request or few.

    Columns of an array in C order cost a pass over the file, of which `_PIECE` bytes are held.

    Raises
    ------
    ValueError
        If the file is no .npy array of numbers, has more axes, or is not whole.
    """

    def __init__(self, path: StorePath) -> None:
        self._file = path.open()
        read = _HEADERS.get(np.lib.format.read_magic(self._file))
        if read is None:
            raise ValueError("wanted version 1 or 2 of the .npy format")
        self.shape, turned, self.dtype = read(self._file)
        self._start, self._turned = self._file.tell(), turned and len(self.shape) == 2
        if self.dtype.hasobject or len(self.shape) not in {1, 2}:
            raise ValueError(f"it holds {self.dtype} of shape {self.shape}")
        wanted = self._start + int(np.prod(self.shape)) * self.dtype.itemsize
        if path.stat().st_size < wanted:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, its header promises {wanted:,}")

    @property
    def ndim(self) -> int:
        """1 or 2."""
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        del copy
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Rows | tuple[Rows, Rows]) -> npt.NDArray[Any]:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if self._turned:
            return self._picked(columns, rows, self.shape[::-1]).T
        return self._picked(rows, columns, self.shape)

    def _picked(self, rows: Rows, columns: Rows, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Rows and columns of the array as it is stored."""
        row_R = np.arange(shape[0])[rows]
        size = int(np.prod(shape[1:])) * self.dtype.itemsize
        runs = np.split(row_R, np.flatnonzero(np.diff(row_R) != 1) + 1) if len(row_R) else []
        parts = []
        for run in runs:
            most = max(_PIECE // max(size, 1), 1)
            for piece in (run[first : first + most] for first in range(0, len(run), most)):
                self._file.seek(self._start + int(piece[0]) * size)
                data = np.frombuffer(self._file.read(len(piece) * size), self.dtype).reshape(len(piece), *shape[1:])
                parts.append(data[:, columns] if len(shape) == 2 else data)
        if not parts:
            return np.empty((0, *np.empty(shape[1:], np.bool_)[columns].shape) if len(shape) == 2 else (0,), self.dtype)
        return np.concatenate(parts)


def open_npy(path: Place) -> Any:
    """An array, left where it is: memory-mapped, or a `StoredArray`. Nothing is unpickled.

    Raises
    ------
    DataError
        If the file is missing, no array, or not whole.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    try:
        if isinstance(path, Path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return StoredArray(path)
    except StoreError:
        raise
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a readable .npy array, or not whole: {error}") from error
