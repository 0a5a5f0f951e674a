"""A small real gather stage, with faults on order: float32 sums over all segments, whose last bits show the order of adding."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.core.tree import Forest
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import BadRow, Chunk, Engine, Node, Receipt, Resources, StageOutput
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.gathering import GatherStageTask
from scuba_ray.tables.store import RunFolder, Unit

TABLE = "analyses/sums"
KEY = "subj01/tiny"
Vectors = npt.NDArray[np.float32]


class Sums:
    """For each number n: the sum over all segments s of a vector drawn from (n, s).

    `width` is the vectors' length: long ones go through Ray's object store, short ones do not. Holding and answering leave files
    in `calls`, as does every holder's process id; `faults` says what happens where.
    """

    name = "sum"
    version = 1
    table = TABLE
    input_columns = ("voxel_id",)
    input_name = "numbers"

    def __init__(self, calls: Path, faults: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.calls = str(calls)
        self.faults = dict(faults or {})
        self.segments: int = settings.pop("segments", 7)
        self.together: int = settings.pop("together", 3)
        self.width: int = settings.pop("width", 16)
        self.seconds: float = settings.pop("seconds", 0.0)
        self.held: str = settings.pop("held", "numbers")
        self.resources = settings.pop("resources", Resources(cpus=0.25))
        assert not settings

    def fingerprint(self) -> dict[str, Any]:
        return {"width": self.width}

    def read(self, chunk: Chunk) -> pa.Table:
        return pa.table({"voxel_id": np.arange(chunk.start, chunk.stop)})

    def hold(self, first: int, stop: int) -> Held:
        self.note(f"hold-{first}-{stop}-{os.getpid()}")
        self.fail("hold")
        return Held(self, first, stop)

    def question(self, rows: pa.Table) -> list[int]:
        self.fail("question")
        return [int(number) for number in rows["voxel_id"].to_pylist()]

    def merge(self, left: Vectors, right: Vectors) -> Vectors:
        self.fail("merge")
        return left + right

    def finish(self, question: list[int], answer: Vectors) -> StageOutput:
        self.fail(f"finish {question[0]}")
        bad = tuple(BadRow(f"voxel_id={number}", "it is thirteen") for number in question if number == 13)
        good = [row for row, number in enumerate(question) if number != 13]
        vector = pa.FixedSizeListArray.from_arrays(pa.array(answer[good].ravel()), self.width)
        return StageOutput(pa.table({"voxel_id": [question[row] for row in good], "vector": vector}), bad)

    def note(self, name: str) -> None:
        Path(self.calls).mkdir(parents=True, exist_ok=True)
        (Path(self.calls) / f"{name}-{uuid.uuid4().hex}").touch()

    def fail(self, where: str) -> None:
        fault = self.faults.get(where)
        if fault is None:
            return
        mark = Path(self.calls) / f"fault-{where}"
        first_time = not mark.exists()
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        if fault == "config":
            raise ConfigError("sum.of must not be seven, got 7")
        if fault == "broken":
            raise RuntimeError("no sums today")
        if fault == "disk" or (fault == "disk once" and first_time):
            raise OSError("the disk is away")
        if fault == "die" or (fault == "die once" and first_time):
            os.kill(os.getpid(), signal.SIGKILL)


class Held:
    def __init__(self, stage: Sums, first: int, stop: int) -> None:
        self.stage, self.run = stage, (first, stop)

    def answer(self, questions: Sequence[list[int]]) -> list[dict[Node, Vectors]]:
        self.stage.note(f"answer-{self.run[0]}-{len(questions)}")
        time.sleep(self.stage.seconds)
        answers = []
        for question in questions:
            for number in question:
                self.stage.fail(f"{number} at {self.run[0]}")
            forest: Forest[Vectors] = Forest(np.add)
            for segment in range(*self.run):
                forest.add((0, segment), drawn(question, segment, self.stage.width))
            answers.append(forest.nodes)
        return answers


def drawn(question: list[int], segment: int, width: int) -> Vectors:
    """Numbers of very different sizes: added in another order they give another sum."""
    rngs = [np.random.default_rng((number, segment)) for number in question]
    return np.stack([(rng.normal(size=width) * 10.0 ** rng.integers(-4, 4)).astype(np.float32) for rng in rngs])


def gather(run: RunFolder, engine: Engine, stage: Sums, chunks: Sequence[Chunk], key: str = KEY) -> list[Receipt]:
    """What the pipeline does for a step; returns the receipts of what had to be computed."""
    with run.lock():
        unit = Unit(run.location, stage.name, stage.table, key, fingerprint(stage.fingerprint()))
        receipts = list(engine.gather(GatherStageTask(stage, unit), run.missing(unit, chunks)))
        run.finish(unit, chunks, receipts)
    return receipts


def calls_of(stage: Sums, kind: str) -> list[str]:
    """What was done, as `hold-first-stop-pid` or `answer-first-questions`."""
    names = [path.name for path in Path(stage.calls).iterdir() if path.name.startswith(kind)]
    return sorted(name.rpartition("-")[0] for name in names)
