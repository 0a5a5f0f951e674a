"""Files on a disk or an object store, through pyarrow.fs: whole and at once, or not at all.

On a disk a file is written under a temporary name (leading dot: readers of a folder skip it), flushed to the disk and renamed.
On any other filesystem the finished bytes are put under the final name in one request, which object stores make visible whole.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from scuba_ray.errors import ConfigError

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{12}\.tmp$")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def is_uri(location: str) -> bool:
    """Whether `location` names a place by scheme (`s3://...`), not as a path on this machine."""
    return _SCHEME.match(location) is not None


def normalise(location: str) -> str:
    """A local path as an absolute one, `file://` taken off; any other URI as it is, without a trailing slash."""
    if location.startswith("file://"):
        location = pafs.FileSystem.from_uri(location)[1]
    if is_uri(location):
        return location.rstrip("/")
    return str(Path(location).expanduser().absolute())


def is_local(location: str) -> bool:
    """Whether `location` is a path on this machine's filesystems."""
    return not is_uri(location) or location.startswith("file://")


@functools.lru_cache(maxsize=64)
def filesystem(location: str) -> tuple[Any, str]:
    """The filesystem (pyarrow.fs) of a local path or a URI, and the path on it. What pyarrow does not know, fsspec may.

    Raises
    ------
    ConfigError
        If neither knows the scheme, the package for it is not installed, or the store refuses.
    """
    if not is_uri(location):
        return pafs.LocalFileSystem(), str(Path(location).expanduser().absolute())
    try:
        found, path = pafs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as unknown:
        found, path = _from_fsspec(location, unknown)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"cannot reach {location}: {error}") from error
    return found, path.rstrip("/")


def _from_fsspec(location: str, unknown: Exception) -> tuple[Any, str]:
    import fsspec

    try:
        found, path = fsspec.core.url_to_fs(location)
    except (ImportError, OSError, ValueError) as error:
        raise ConfigError(
            f"cannot reach {location}: pyarrow says: {unknown}; fsspec says: {error}. Wanted: a local path or a location that "
            "one of them knows"
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(found)), path


def write(location: str, name: str, data: bytes) -> None:
    """Make `name` inside `location` hold `data`, atomically; folders on the way are made."""
    if is_local(location):
        _write_on_disk(Path(location) / name, data)
        return
    files, root = filesystem(location)
    path = f"{root}/{name}"
    files.create_dir(path.rpartition("/")[0], recursive=True)
    with files.open_output_stream(path) as stream:
        stream.write(data)


def _write_on_disk(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(location: str, name: str) -> bytes:
    """The bytes of `name` inside `location`. Raises FileNotFoundError if there is none."""
    files, root = filesystem(location)
    with files.open_input_file(f"{root}/{name}") as stream:
        data: bytes = stream.read()
    return data


def sizes(location: str, folder: str) -> dict[str, int]:
    """Names of the files in `folder` of `location` with their bytes, none if there is no such folder."""
    files, root = filesystem(location)
    entries = files.get_file_info(pafs.FileSelector(f"{root}/{folder}".rstrip("/"), allow_not_found=True))
    return {entry.base_name: entry.size for entry in entries if entry.type == pafs.FileType.File}


def walk(location: str) -> dict[str, int]:
    """All files below `location`, by their path inside it, with their bytes; none if there is no such folder."""
    files, root = filesystem(location)
    entries = files.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    return {entry.path.removeprefix(f"{root}/"): entry.size for entry in entries if entry.type == pafs.FileType.File}


def is_temporary(name: str) -> bool:
    """Whether a file is one that a writer had not finished."""
    return _TEMPORARY.match(name) is not None


def names(location: str, folder: str) -> set[str]:
    """Names of the files in `folder` of `location`, none if there is no such folder."""
    return set(sizes(location, folder))


def delete(location: str, name: str) -> None:
    """Remove `name` inside `location` if it is there."""
    files, root = filesystem(location)
    path = f"{root}/{name}"
    if files.get_file_info(path).type == pafs.FileType.File:
        files.delete_file(path)


def clean(location: str, folder: str) -> None:
    """Remove what killed writers left in `folder`. Only under the run's lock: a living writer's file looks the same."""
    if not is_local(location):
        return
    for name in names(location, folder):
        if is_temporary(name):
            (Path(location) / folder / name).unlink(missing_ok=True)


def whoami() -> dict[str, Any]:
    """This process, as lock files name it."""
    return {"host": socket.gethostname(), "pid": os.getpid()}
