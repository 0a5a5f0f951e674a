"""Files on an object store, wherever pyarrow.fs or fsspec reach: as much of `pathlib.Path` as layouts use.

A store or network that fails raises StoreError, an OSError, which a worker tries again; what may not
be read is a ConfigError, because no second try helps.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePath, PurePosixPath
from typing import Any, Literal

import pyarrow.fs as pafs

from scuba_ray.datasets.store_file import StoreError, StoreFile
from scuba_ray.errors import ConfigError
from scuba_ray.tables import files

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)/?([^?#]*)(.*)", re.DOTALL)
_WILD = set("*?[")
_BELIEVED = 10
"""Seconds for which an answer on what is at a place counts: opening a data set asks for the same files again and again."""
_DENIED = re.compile(r"ACCESS_DENIED|ACCESS_KEY|SIGNATURE|\b40[13]\b|unauthori[sz]ed|forbidden|credential", re.IGNORECASE)


@dataclass(frozen=True)
class Size:
    """What is known of a file."""

    st_size: int


@dataclass(frozen=True, order=True)
class StorePath:
    """A place on a store. Picklable; `str` is its URI, from which `parse` makes it again."""

    store: str
    """Scheme and host: `s3://bucket`."""
    inside: str
    """The path on it, without a slash at either end."""
    query: str = ""
    """Options of the connection: `?region=...`."""
    listed: int = field(default=-1, compare=False, repr=False)
    """Bytes of the file, where a listing said so; nobody has to ask again."""

    @classmethod
    def parse(cls, uri: str) -> StorePath:
        """From a URI. ConfigError if it is none."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise ConfigError(f"{uri!r} is no URI of a store; wanted something like s3://bucket/folder")
        return cls(match[1], match[2].strip("/"), match[3])

    def __str__(self) -> str:
        return f"{self.store}/{self.inside}{self.query}"

    def __truediv__(self, below: str | PurePath) -> StorePath:
        inside = posixpath.normpath(posixpath.join("/", self.inside, str(below))).lstrip("/")
        return StorePath(self.store, inside, self.query)

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.inside).name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self.inside).stem

    @property
    def suffix(self) -> str:
        """From the last dot of the last part."""
        return PurePosixPath(self.inside).suffix

    @property
    def parent(self) -> StorePath:
        """The folder it is in."""
        return self / ".."

    def is_relative_to(self, other: Any) -> bool:
        """Whether it lies below another place."""
        same = isinstance(other, StorePath) and (self.store, self.query) == (other.store, other.query)
        return same and PurePosixPath(self.inside).is_relative_to(other.inside)

    def relative_to(self, other: Any) -> PurePosixPath:
        """The path from a folder above it."""
        return PurePosixPath(self.inside).relative_to(other.inside)

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self.listed >= 0 or self._info().type == pafs.FileType.File

    def is_dir(self) -> bool:
        """Whether anything lies below."""
        return self.listed < 0 and self._info().type == pafs.FileType.Directory

    def exists(self) -> bool:
        """Whether there is a file, or anything below."""
        return self.listed >= 0 or self._info().type != pafs.FileType.NotFound

    def stat(self) -> Size:
        """The file's size. FileNotFoundError if there is none."""
        if self.listed >= 0:
            return Size(self.listed)
        info = self._info()
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(f"no file at {self}")
        return Size(info.size)

    def iterdir(self) -> Iterator[StorePath]:
        """What lies directly below; nothing if there is no such folder."""
        return self._below(recursive=False)

    def rglob(self, pattern: str) -> Iterator[StorePath]:
        """All files below whose names match."""
        return (one for one in self._below(recursive=True) if one.listed >= 0 and fnmatchcase(one.name, pattern))

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """What matches a relative pattern, part by part; `**` is none."""
        found = [self]
        for part in PurePosixPath(pattern).parts:
            if _WILD & set(part):
                found = [one for folder in found for one in folder.iterdir() if fnmatchcase(one.name, part)]
            else:
                found = [one / part for one in found]
        return (one for one in found if one.exists())

    def open(self, mode: Literal["rb"] = "rb") -> StoreFile:
        """The file, to be read anywhere. FileNotFoundError if there is none."""
        assert mode == "rb", "files of a data set are only read"
        return StoreFile(self)

    def read_bytes(self) -> bytes:
        """All of the file."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of the file as text."""
        return self.read_bytes().decode(encoding)

    def on_filesystem(self) -> tuple[Any, str]:
        """The filesystem (pyarrow.fs) and the path on it. A store is connected to once."""
        filesystem, base = files.filesystem(self.store + self.query)
        return filesystem, f"{base}/{self.inside}".rstrip("/")

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Say of what goes wrong in here where it did, and whether to try again."""
        try:
            yield
        except (StoreError, FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise
        except OSError as error:
            if isinstance(error, PermissionError) or _DENIED.search(str(error)):
                raise ConfigError(
                    f"{self} may not be read: {error}. Give the store's credentials where scuba runs and on every node: for "
                    "s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for gs:// GOOGLE_APPLICATION_CREDENTIALS "
                    "(a public bucket: gs://anonymous@BUCKET)"
                ) from error
            raise StoreError(f"{self} cannot be reached: {error}") from error

    def _info(self) -> Any:
        return _asked(self, int(time.monotonic() // _BELIEVED))

    def _below(self, *, recursive: bool) -> Iterator[StorePath]:
        filesystem, place = self.on_filesystem()
        with self.reached():
            found = filesystem.get_file_info(pafs.FileSelector(place, allow_not_found=True, recursive=recursive))
        for info in found:
            inside = (self / info.path.removeprefix(place).lstrip("/")).inside
            yield StorePath(self.store, inside, self.query, info.size if info.type == pafs.FileType.File else -1)


@lru_cache(maxsize=4096)
def _asked(path: StorePath, moment: int) -> Any:
    """What is at a place; `moment` ends what is remembered of it."""
    del moment
    filesystem, place = path.on_filesystem()
    with path.reached():
        return filesystem.get_file_info(place)
