"""A store that layouts are read from: fsspec's filesystem in memory, which pyarrow.fs knows through fsspec alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import fsspec


@contextmanager
def stored(folder: Path) -> Iterator[str]:
    """A copy of a folder in memory, as a URI; gone afterwards."""
    name, files = f"scuba-{uuid4().hex[:8]}", fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/{name}/{path.relative_to(folder)}", path.read_bytes())
    yield f"memory://{name}"
    files.rm(f"/{name}", recursive=True)
