"""A small real stage over numbers, with faults on order, and what tests of engines and of the run folder need around it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Chunk, Engine, Receipt, Resources, StageOutput
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.store import RunFolder, Unit
from scuba_ray.tables.worker import StageTask

TABLE = "analyses/squares"
KEY = "subj01/tiny"


class Squares:
    """Squares of the numbers of a chunk, and a vector drawn from each; `faults` says what happens at which number.

    A call leaves a file in `calls` (named by its first number), so that a test can count what was computed anywhere.
    """

    name = "square"
    version = 1
    table = TABLE
    input_columns = ("voxel_id",)
    input_name = "numbers"

    def __init__(self, calls: Path, faults: Mapping[int, str] | None = None, scale: float = 1.0, seconds: float = 0.0) -> None:
        self.calls = str(calls)
        self.faults = dict(faults or {})
        self.scale = scale
        self.seconds = seconds
        self.resources = Resources(cpus=0.5)

    def fingerprint(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def setup(self) -> None:
        if self.faults.get(-1) == "setup":
            raise RuntimeError("no weights")
        Path(self.calls).mkdir(parents=True, exist_ok=True)

    def read(self, chunk: Chunk) -> pa.Table:
        return pa.table({"voxel_id": np.arange(chunk.start, chunk.stop)})

    def __call__(self, rows: pa.Table) -> StageOutput:
        numbers = rows["voxel_id"].to_numpy()
        if len(numbers):
            (Path(self.calls) / f"{numbers[0]:05d}-{uuid.uuid4().hex}").touch()
        for number in numbers.tolist():
            self._fail(number)
        time.sleep(self.seconds)
        vectors = np.stack([np.random.default_rng(n).normal(size=16) for n in numbers]) if len(numbers) else np.zeros((0, 16))
        return StageOutput(
            pa.table(
                {
                    "voxel_id": numbers,
                    "square": numbers**2 * self.scale,
                    "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), 16),
                }
            )
        )

    def _fail(self, number: int) -> None:
        fault = self.faults.get(number)
        first_time = not (Path(self.calls) / f"fault-{number}").exists()
        (Path(self.calls) / f"fault-{number}").touch()
        if fault == "row":
            raise ValueError(f"{number} has no square")
        if fault == "config":
            raise ConfigError("square.of must not be seven, got 7")
        if fault == "memory":
            raise MemoryError("too large")
        if fault == "disk once" and first_time:
            raise OSError("the disk was away")
        if fault == "disk":
            raise OSError("the disk is away")
        if fault == "die" or (fault == "die once" and first_time):
            os.kill(os.getpid(), signal.SIGKILL)


def cut(rows: int = 40, size: int = 5) -> list[Chunk]:
    return [Chunk(index, start, min(start + size, rows)) for index, start in enumerate(range(0, rows, size))]


def begin(run: RunFolder, stage: Squares, key: str = KEY) -> Unit:
    return run.begin(step=stage.name, table=stage.table, key=key, fingerprint=fingerprint(stage.fingerprint()))


def complete(run: RunFolder, engine: Engine, stage: Squares, chunks: Sequence[Chunk], key: str = KEY) -> list[Receipt]:
    """What the pipeline does for a step; returns the receipts of what had to be computed."""
    with run.lock():
        unit = begin(run, stage, key)
        receipts = list(engine.map(StageTask(stage, unit), run.missing(unit, chunks)))
        run.finish(unit, chunks)
    return receipts


def computed(stage: Squares) -> list[int]:
    """First numbers of the calls made so far, in order."""
    return sorted(int(path.name.split("-")[0]) for path in Path(stage.calls).iterdir() if not path.name.startswith("fault"))


def forget_calls(stage: Squares) -> None:
    for path in Path(stage.calls).iterdir():
        path.unlink()


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a run that is a result: names and bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
