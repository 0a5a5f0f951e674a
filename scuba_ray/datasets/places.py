"""Where a layout's files lie: paths on this machine, or on an object store. One set of functions for both.

Large files are read where they are, by ranges or once from the beginning, so a store costs no disk. What a library takes by name
alone is copied for as long as it is read.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scuba_ray.datasets.store_file import BLOCK, StoreFile
from scuba_ray.datasets.store_paths import StorePath
from scuba_ray.tables.files import is_uri, normalise

Place = Path | StorePath
"""They answer to the same names, as far as layouts use them."""


def place(location: str) -> Place:
    """A path on this machine (absolute; `file://` is taken off) or a place on a store."""
    location = normalise(location)
    return StorePath.parse(location) if is_uri(location) else Path(location)


def below(root: Place, given: str) -> Place:
    """A file as an option names it: from `root`, unless it is absolute or a URI; `~` is the home folder."""
    if is_uri(given):
        return place(given)
    path = Path(given).expanduser()
    return path if path.is_absolute() else root / path


def matching(root: Place, pattern: str) -> list[Place]:
    """What a pattern (`*`, `?`, `[`) names, from `root` unless it is absolute or a URI, in no order."""
    if is_uri(pattern):
        whole = StorePath.parse(pattern)
        return [*StorePath(whole.store, "", whole.query).glob(whole.inside)]
    path = Path(pattern).expanduser()
    if path.is_absolute():
        return [*Path(path.anchor).glob(str(path.relative_to(path.anchor)))]
    return [*root.glob(pattern)]


def relative(path: Place, root: Place) -> str:
    """What a file is called in a fingerprint: its path below `root`, or its name. Not where the data set lies."""
    if isinstance(path, Path):
        return str(path.relative_to(root)) if isinstance(root, Path) and path.is_relative_to(root) else path.name
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def readable(path: Place) -> Path | StoreFile:
    """For libraries that read an open file as well as a path: on a store they read the ranges they need."""
    return path if isinstance(path, Path) else path.open()


def open_text(path: Place) -> io.StringIO:
    """A small text file (UTF-8), its line ends as they are, for `csv`."""
    return io.StringIO(path.read_bytes().decode("utf-8"), newline="")


@contextmanager
def on_disk(path: Place) -> Iterator[Path]:
    """For libraries that want a path: a store's file is copied to the temporary folder and deleted afterwards."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="scuba-") as folder:
        copy = Path(folder) / path.name
        with path.open() as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, BLOCK)
        yield copy


@contextmanager
def blocks(paths: Mapping[str, Place]) -> Iterator[Callable[[str, int, int], bytes]]:
    """Reads bytes by name, offset and size, for `content.spread_digest`, which goes file by file: one is open at a time."""
    opened: dict[str, Any] = {}

    def read_at(name: str, offset: int, size: int) -> bytes:
        if name not in opened:
            close()
            opened[name] = paths[name].open("rb")
        file = opened[name]
        if isinstance(file, StoreFile):
            return file.read_at(offset, size)
        file.seek(offset)
        data: bytes = file.read(size)
        return data

    def close() -> None:
        while opened:
            opened.popitem()[1].close()

    try:
        yield read_at
    finally:
        close()
