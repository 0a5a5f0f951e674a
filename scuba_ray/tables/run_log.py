"""The log of a run in its folder: every line of `scuba_ray.*` while the run goes on.

RUN/log.jsonl                        on a disk: appended to line by line, by every run in this folder
RUN/logs/<UTC time>-<run id>.jsonl   on an object store, which cannot append: one file a run, written at its end
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from scuba_ray import logs
from scuba_ray.tables import files

NAME, FOLDER = "log.jsonl", "logs"
_ESCAPE = "backslashreplace"
"""Of names of files that are no text: what Python writes for their bytes is JSON's escape, too."""
_BLOCK = 1 << 16


@contextlib.contextmanager
def written(location: str, run_id: str) -> Iterator[None]:
    """Write what is logged meanwhile to the folder at `location` (normalised), with `run_id`. Call it under the lock."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(logs.about(run_id=run_id))
        local = files.is_local(location)
        stream = stack.enter_context(_appended(location) if local else _sent(location, run_id))
        stack.enter_context(logs.attached(logging.StreamHandler(stream)))
        yield


@contextlib.contextmanager
def _appended(location: str) -> Iterator[IO[str]]:
    path = Path(location) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as raw:
        raw.truncate(_whole_lines(raw))  # without the line that a killed run did not finish
        with io.TextIOWrapper(raw, encoding="utf-8", errors=_ESCAPE, line_buffering=True) as stream:
            yield stream


def _whole_lines(raw: IO[bytes]) -> int:
    """Bytes up to the end of the last whole line."""
    end = raw.seek(0, os.SEEK_END)
    while end:
        first = max(end - _BLOCK, 0)
        raw.seek(first)
        if (found := raw.read(end - first).rfind(b"\n")) >= 0:
            return first + found + 1
        end = first
    return 0


@contextlib.contextmanager
def _sent(location: str, run_id: str) -> Iterator[IO[str]]:
    began = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors=_ESCAPE) as stream:
        try:
            yield stream
        finally:
            stream.seek(0)
            files.write(location, f"{FOLDER}/{began}-{run_id}.jsonl", stream.read().encode())
