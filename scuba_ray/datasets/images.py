"""A folder of pictures as an image source."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs

from scuba_ray.datasets.content import text_digest
from scuba_ray.datasets.pictures import EXTENSIONS
from scuba_ray.errors import ConfigError, DataError

_SAMPLED = 256
_LISTING = pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("source", pa.string())])


class FolderImages:
    """All pictures below a folder (or a `pyarrow.fs` location), in the order of their relative paths.

    `image_id` and `uri` are the path relative to the folder, so a folder that moves keeps its ids. Hidden files and folders
    (a leading dot) are left out. Picklable: the listing is made on first use.

    Raises
    ------
    ConfigError
        If there is no such folder.
    DataError
        From `listing`, if it holds no pictures; from `read`, if a picture is not there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        filesystem, root = self._root
        if filesystem.get_file_info(root).type != pafs.FileType.Directory:
            raise ConfigError(f"no folder of pictures at {path}")

    def __reduce__(self) -> tuple[type[FolderImages], tuple[str]]:
        return FolderImages, (self._path,)

    def fingerprint(self) -> str:
        """Of all names and sizes, and the bytes of 256 pictures spread evenly over the listing."""
        files = self._files
        sampled = sorted({index * (len(files) - 1) // (_SAMPLED - 1) for index in range(_SAMPLED)}) if files else []
        contents = [hashlib.sha256(self.read(files[index][0])).hexdigest() for index in sampled]
        return text_digest(*(f"{name}\n{size}" for name, size in files), *contents)

    def listing(self) -> pa.Table:
        """Columns image_id, uri and source (the folder's name), sorted by image_id."""
        return self._listing

    def read(self, uri: str) -> bytes:
        """Bytes of one picture by its relative path."""
        parts = PurePosixPath(uri).parts
        if not parts or PurePosixPath(uri).is_absolute() or ".." in parts:
            raise DataError(f"picture {uri!r} must be named by a path inside {self._path}")
        filesystem, root = self._root
        try:
            with filesystem.open_input_file(f"{root}/{uri}") as file:
                data: bytes = file.read()
        except OSError as error:
            # a disk or network that fails is not the picture's fault: only what is no readable file is
            if filesystem.get_file_info(f"{root}/{uri}").type == pafs.FileType.File and not isinstance(error, PermissionError):
                raise
            raise DataError(f"picture {uri!r} cannot be read from {self._path}: {error}") from error
        return data

    @cached_property
    def _root(self) -> tuple[pafs.FileSystem, str]:
        if "://" not in self._path:
            return pafs.LocalFileSystem(), Path(self._path).expanduser().absolute().as_posix()
        try:
            filesystem, root = pafs.FileSystem.from_uri(self._path)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"cannot reach the folder of pictures {self._path}: {error}") from error
        return filesystem, root

    @cached_property
    def _listing(self) -> pa.Table:
        names = [name for name, _ in self._files]
        if not names:
            kinds = " ".join(sorted(EXTENSIONS))
            raise DataError(f"no pictures below {self._path}: wanted files that end in {kinds}")
        source = PurePosixPath(self._root[1]).name
        return pa.table({"image_id": names, "uri": names, "source": [source] * len(names)}, schema=_LISTING)

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        """Relative path and size of every picture, sorted by path."""
        filesystem, root = self._root
        found = []
        for info in filesystem.get_file_info(pafs.FileSelector(root, recursive=True)):
            path = PurePosixPath(info.path).relative_to(root)
            hidden = any(part.startswith(".") for part in path.parts)
            if info.type == pafs.FileType.File and path.suffix.lower() in EXTENSIONS and not hidden:
                found.append((path.as_posix(), info.size))
        return sorted(found)
