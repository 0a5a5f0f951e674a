"""What a step is told and tells: what it needs first, how far it is, what it made, what it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scuba_ray.protocols import Stage


@dataclass(frozen=True)
class Progress:
    """Where a step stands; sent when it starts, after every chunk and when it is complete."""

    step: str
    key: str
    """The unit: `subj01/ViT-B-32`."""
    chunks_done: int
    chunks_total: int
    rows_done: int
    rows_total: int
    bad_rows: int
    """Rows quarantined since this run began."""
    seconds: float
    resumed: int
    """Chunks that were on disk already."""


Listener = Callable[[Progress], None]


class AtMost(int):
    """A count that is bounded and not known: it depends on what the step called `until` gives."""

    until: str

    def __new__(cls, value: int, until: str) -> AtMost:
        """The bound, and what it waits for."""
        made = super().__new__(cls, value)
        made.until = until
        return made


@dataclass(frozen=True)
class Scratch:
    """A step whose table one other step reads and nothing else: it is made for that step and deleted after it."""

    stage: Stage
    rows: int
    """Of its input."""
    chunk: int
    """Rows a part is made of."""


@dataclass(frozen=True)
class Result:
    """A finished unit, as later steps name it."""

    table: str
    key: str
    fingerprint: str
    rows: int
    chunks: int = 1
    """Parts it has."""
    there: bool = True
    """Whether its table can be read; not where a step is only planned."""


@dataclass(frozen=True)
class Taken:
    """What a step took, as `run.json` has it."""

    rows_in: int
    rows: int
    chunks: int
    computed_chunks: int
    seconds: float
