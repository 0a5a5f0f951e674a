"""Where pictures lie: folders and files on a disk, or wherever pyarrow.fs or fsspec reach; opened often, by many threads.

A disk or network that fails raises OSError, as itself: a worker tries again. A file that is not there, or that nobody may read,
is the file's fault and a DataError.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import pyarrow.fs as pafs

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables import files

OPEN_FILES = 32
"""Files that a location keeps open for `read_at`; more than the threads that read beside each other."""
MAX_BYTES = 1 << 30
"""Bytes above which a file is no picture: no reader takes more into memory at once."""
_STORE = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)/?([^?#]*)(.*)$")


def read_picture(path: str) -> bytes:
    """The bytes of one file by its absolute path or URI; errors as in `Location.read`. A store is connected to once."""
    store = _STORE.match(path)
    if store is None or path.startswith("file:"):
        filesystem, inside = files.filesystem(path)
    else:
        filesystem, base = files.filesystem(store[1] + store[3])
        inside = f"{base}/{store[2]}"
    return _read(filesystem, inside, path)


def _read(filesystem: Any, inside: str, path: str, root: str | None = None) -> bytes:
    try:
        with filesystem.open_input_file(inside) as file:
            if file.size() > MAX_BYTES:
                raise DataError(f"{path} has {file.size():,} bytes, more than {MAX_BYTES:,}: no picture")
            data: bytes = file.read()
    except OSError as error:
        raise _fault(filesystem, inside, path, root, error) from error
    return data


def _fault(filesystem: Any, inside: str, path: str, root: str | None, error: OSError) -> OSError | DataError:
    """What `error` on opening or reading a file is: the file's own fault (DataError), or the disk's or network's.

    A file below a folder `root` that is gone too (a disk that is not mounted any more) is not at fault.
    """
    if root is not None and filesystem.get_file_info(root).type == pafs.FileType.NotFound:
        return OSError(f"{path} cannot be read: the folder is not there any more")
    if filesystem.get_file_info(inside).type == pafs.FileType.File and not isinstance(error, PermissionError):
        return error
    return DataError(f"{path} cannot be read: {error}")


class Location:
    """A folder, or a single file, with what lies below it under relative names. Picklable; safe for threads.

    Raises
    ------
    ConfigError
        If there is nothing at `path`, or it cannot be reached.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = Lock()
        self._opened: OrderedDict[str, Any] = OrderedDict()
        filesystem, place = files.filesystem(path)
        try:
            kind = filesystem.get_file_info(place).type
        except PermissionError as error:
            raise ConfigError(f"{path} may not be looked at: {error}") from error
        if kind == pafs.FileType.NotFound:
            raise ConfigError(f"no folder of pictures at {path}, and no file")
        self.is_folder = kind == pafs.FileType.Directory
        self._filesystem = filesystem
        self._root = place if self.is_folder else place.rpartition("/")[0]
        self._single = None if self.is_folder else filesystem.get_file_info(place)

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (self.path,)

    def files(self, extensions: Collection[str]) -> list[tuple[str, int]]:
        """Relative name and size of all files whose name ends, in any case, in one of `extensions`, sorted by name.

        What has a leading dot, or lies in a folder that has, is left out.

        Raises
        ------
        ConfigError
            If a folder may not be listed.
        DataError
            If a name is not text (UTF-8).
        """
        if self._single is not None:
            return [(self._single.base_name, self._single.size)]
        ends = tuple(extensions)
        found = []
        try:
            for info in self._filesystem.get_file_info(pafs.FileSelector(self._root, recursive=True)):
                name = PurePosixPath(info.path).relative_to(self._root)
                hidden = any(part.startswith(".") for part in name.parts)
                if info.type == pafs.FileType.File and name.name.lower().endswith(ends) and not hidden:
                    found.append((name.as_posix(), info.size))
        except UnicodeDecodeError as error:
            raise DataError(f"a file below {self.path} has a name that is not UTF-8: {error.object!r}; rename it") from error
        except PermissionError as error:
            raise ConfigError(f"what lies below {self.path} cannot be listed: {error}") from error
        return sorted(found)

    def _inside(self, name: str) -> str:
        """The path of a relative name on the filesystem. Raises DataError if it leads out of the folder."""
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts:
            raise DataError(f"{name!r} must be a path inside {self.path}")
        return f"{self._root}/{name}"

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises
        ------
        DataError
            If there is no such file inside the folder, nobody may read it, or it has more than `MAX_BYTES`.
        OSError
            If the disk or network fails.
        """
        return _read(self._filesystem, self._inside(name), f"{name!r} in {self.path}", self._root)

    def stream(self, name: str, buffer: int) -> Any:
        """A file to be read once from its beginning, `buffer` bytes a request; errors as in `read`."""
        inside = self._inside(name)
        try:
            return self._filesystem.open_input_stream(inside, compression=None, buffer_size=buffer)
        except OSError as error:
            raise _fault(self._filesystem, inside, f"{name!r} in {self.path}", self._root, error) from error

    def open(self, name: str) -> Any:
        """A file to be read anywhere; errors as in `read`."""
        inside = self._inside(name)
        try:
            return self._filesystem.open_input_file(inside)
        except OSError as error:
            raise _fault(self._filesystem, inside, f"{name!r} in {self.path}", self._root, error) from error

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file from `offset`, fewer where it ends; errors as in `read`. The last 32 files stay open."""
        with self._lock:
            file = self._opened.pop(name, None)
            if file is None:
                file = self.open(name)
            self._opened[name] = file
            if len(self._opened) > OPEN_FILES:
                # not closed here: another thread may be reading from it; it closes when the last one lets go
                self._opened.popitem(last=False)
        try:
            size = min(size, file.size() - offset)
            data: bytes = file.read_at(size, offset) if size > 0 else b""
        except OSError:
            with self._lock:
                self._opened.pop(name, None)
            raise
        return data
