"""Structured logs: one hierarchy of loggers, `scuba_ray.*`, whose records can be read as lines of JSON.

Nothing is set up on import, and the root logger is never touched: whoever wants the lines attaches a handler (`run_log` in a
run's folder, `scuba run --log-format json` on stderr). A line has `time`, `level`, `logger`, `message`, and as far as they are
known `run_id`, `step`, `key`, `chunk`, `seconds`, `rows`, `bad_rows` and `trace`. What workers have to say travels to the driver
as such lines and is logged there again, so that one log has all of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

LOGGER = "scuba_ray"
FIELDS = ("run_id", "step", "key", "chunk", "seconds", "rows", "bad_rows", "trace")
"""What a line may have beside time, level, logger and message; given as `extra` to a logger, or by `about`."""
_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


def new_run_id() -> str:
    """An id of one call of a run or build, short enough for a label: 8 hexadecimal digits."""
    return uuid.uuid4().hex[:8]


@contextlib.contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Have every line that is logged meanwhile in this context say these fields, unless it says them itself."""
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


class JsonLines(logging.Formatter):
    """A record as one line of JSON; UTC, to the millisecond."""

    def format(self, record: logging.LogRecord) -> str:
        """Fields of the record, before them what `about` says."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "logger": record.name, **_about.get()}
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps({**line, "message": record.getMessage()}, ensure_ascii=False)


@contextlib.contextmanager
def attached(handler: logging.Handler, level: int = logging.INFO) -> Iterator[None]:
    """Give the lines of this package from `level` on to `handler` meanwhile; afterwards the logger is as it was.

    They do not go on to the root logger: some libraries give it a handler on stderr by the way (`logging.info` does). Whoever
    wants the lines elsewhere too adds a handler to `scuba_ray`.
    """
    logger = logging.getLogger(LOGGER)
    before, onwards = logger.level, logger.propagate
    handler.setFormatter(JsonLines())
    handler.setLevel(level)
    logger.setLevel(min(level, logger.getEffectiveLevel()))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = onwards
        handler.close()


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@contextlib.contextmanager
def kept(lines: list[str]) -> Iterator[None]:
    """On a worker: append every warning and error of this package to `lines` meanwhile, for `tell_again` in the driver."""
    with attached(_Kept(lines), logging.WARNING):
        yield


def tell_again(lines: Sequence[str]) -> None:
    """In the driver: log what a worker kept, with the time and the fields it had there."""
    for line in lines:
        said = json.loads(line)
        logger, level = logging.getLogger(said["logger"]), said["level"].upper()
        known = {name: said[name] for name in FIELDS if name in said}
        when = datetime.fromisoformat(said["time"]).timestamp()
        record = {"msg": said["message"], "levelno": getattr(logging, level), "created": when, **known}
        logger.handle(logging.makeLogRecord({"name": logger.name, "levelname": level, **record}))
