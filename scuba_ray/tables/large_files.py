"""Files too large to hold in memory: written through a local path, whole or not at all, and read as a local path.

Copies of files on an object store are kept in `$XDG_CACHE_HOME/scuba_ray` (`~/.cache/scuba_ray`), which may be emptied whenever
nothing runs. Processes of one machine that want the same file wait for the one that copies it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from scuba_ray.tables import files
from scuba_ray.tables.fingerprint import fingerprint

_BLOCK = 8 * 2**20
"""Bytes copied at once."""


@contextlib.contextmanager
def replacing(location: str, name: str) -> Iterator[Path]:
    """A local path to write to. Without an error inside, the file becomes `name` inside `location`: renamed, or uploaded.

    On a disk it lies in its final folder under a temporary name that `files.clean` knows; for an object store in the temporary
    folder of this machine, which must have room for it.
    """
    if files.is_local(location):
        path = Path(location) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.tmp"
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush(path.parent)
        return
    with tempfile.TemporaryDirectory(prefix="scuba-") as folder:
        temporary = Path(folder) / "file"
        yield temporary
        store, root = files.filesystem(location)
        store.create_dir(f"{root}/{name}".rpartition("/")[0], recursive=True)
        with temporary.open("rb") as source, store.open_output_stream(f"{root}/{name}") as target:
            shutil.copyfileobj(source, target, _BLOCK)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def local_copy(location: str, name: str, version: str) -> Path:
    """A local path of `name` inside `location`: itself, or its copy in the cache of this machine.

    Parameters
    ----------
    version : str
        Tells apart what had the same name at different times; a copy of one version is not taken for another.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if files.is_local(location):
        path = Path(location) / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there")
        return path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scuba_ray" / fingerprint(location, version)[:16]
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / name
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            store, root = files.filesystem(location)
            with (
                store.open_input_stream(f"{root}/{name}") as source,
                replacing(str(cache), name) as temporary,
                temporary.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, _BLOCK)
    return path
