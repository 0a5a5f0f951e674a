"""What a step's unit is named by, and how its rows are cut: the same for a run and for one that is only planned."""

from __future__ import annotations

from collections.abc import Sequence

from scuba_ray.protocols import Analysis, Chunk, GatherStage, Stage
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.progress import Result, Scratch

ANALYSIS_KEY = "run"
"""An analysis reads all subjects at once: its table has one unit."""


def made_of(stage: Stage | GatherStage, inputs: Sequence[str], scratch: Scratch | None = None) -> str:
    """What a result is named by: settings and version of what makes it, and what that reads."""
    if scratch is not None:
        inputs = [*inputs, made_of(scratch.stage, inputs)]
    return fingerprint(stage.name, stage.version, stage.table, stage.fingerprint(), list(inputs))


def analysis_made_of(analysis: Analysis, results: Sequence[Result]) -> str:
    """What an analysis is named by: its settings and version, and the results it reads."""
    inputs = [result.fingerprint for name in analysis.inputs for result in results if result.table == name]
    return fingerprint(f"analyses/{analysis.name}", analysis.version, analysis.fingerprint(), inputs)


def cut(rows: int, size: int) -> list[Chunk]:
    """Cut `rows` into chunks of `size`, the last may be shorter; no rows are one chunk without any."""
    return [Chunk(index, start, min(start + size, rows)) for index, start in enumerate(range(0, rows, size))] or [Chunk(0, 0, 0)]
