"""A step that only the next one reads: made when it is needed, gone afterwards, never asked for by what is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scuba_ray.errors import DataError
from scuba_ray.protocols import Chunk, Engine, Resources, StageOutput
from scuba_ray.tables.progress import Scratch
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder

ROWS = 7


class Doubled:
    """Twice the numbers 0 to 6."""

    name, version, table = "double", 1, "doubled"
    resources = Resources()
    input_columns = ("number",)
    input_name = "numbers"

    def __init__(self, factor: int = 2) -> None:
        self.factor = factor
        self.computed: list[int] = []

    def fingerprint(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def setup(self) -> None: ...

    def read(self, chunk: Chunk) -> pa.Table:
        return pa.table({"number": pa.array(range(chunk.start, chunk.stop), pa.int64())})

    def __call__(self, rows: pa.Table) -> StageOutput:
        self.computed += rows["number"].to_pylist()
        return StageOutput(pa.table({"number": pc.multiply(rows["number"], self.factor)}))


class PlusOne(Doubled):
    """What `Doubled` made, plus one; a stage that is `broken` at some row."""

    name, table, input_name = "plus", "plus", "table doubled"

    def __init__(self, run: RunFolder, broken: int | None = None) -> None:
        super().__init__()
        self.run, self.broken = run, broken

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def read(self, chunk: Chunk) -> pa.Table:
        if self.broken is not None and chunk.start <= self.broken < chunk.stop:
            raise DataError("killed here")
        return self.run.slice("doubled", "s", chunk.start, chunk.stop)

    def __call__(self, rows: pa.Table) -> StageOutput:
        self.computed += rows["number"].to_pylist()
        return StageOutput(pa.table({"number": pc.add(rows["number"], 1)}))


def no_engine() -> Engine:
    raise AssertionError("everything is computed here")


def complete(run: RunFolder, last: PlusOne, first: Doubled, chunk: int = 3) -> Steps:
    steps = Steps(run, no_engine, about={})
    steps.complete(last, key="s", rows=ROWS, chunk=chunk, inputs=["data"], here=True, scratch=Scratch(first, ROWS, 2))
    steps.close_record()
    return steps


def test_it_is_gone_once_the_next_step_is_complete_and_is_asked_for_no_more(tmp_path: Path) -> None:
    run, first, last = RunFolder(str(tmp_path)), Doubled(), PlusOne(RunFolder(str(tmp_path)))
    steps = complete(run, last, first)
    assert run.read("plus")["number"].to_pylist() == [1, 3, 5, 7, 9, 11, 13]
    assert run.keys("doubled") == [] and not list((tmp_path / "doubled").glob("*.parquet"))
    assert [result.table for result in steps.results] == ["plus"], "nobody else may read it"
    again, nothing = PlusOne(run), Doubled()
    complete(run, again, nothing)
    assert again.computed == nothing.computed == []
    taken = run.read_run_json()["steps"]
    assert list(taken) == ["double s", "plus s"] and {step["computed_chunks"] for step in taken.values()} == {0}
    assert taken["double s"]["chunks"] == 4, "what it took stays on record"


def test_it_stays_for_as_long_as_the_next_step_is_not_complete(tmp_path: Path) -> None:
    run, first = RunFolder(str(tmp_path)), Doubled()
    with pytest.raises(DataError, match="killed here"):
        complete(run, PlusOne(run, broken=4), first)
    assert run.keys("doubled") == ["s"]
    resumed, nothing = PlusOne(run), Doubled()
    complete(run, resumed, nothing)
    assert nothing.computed == [] and resumed.computed == [6, 8, 10, 12], "the first chunk was kept"
    assert run.keys("doubled") == []


@pytest.mark.parametrize("finished", [True, False])
def test_what_a_killed_run_left_of_it_is_deleted(tmp_path: Path, finished: bool) -> None:
    run = RunFolder(str(tmp_path))
    complete(run, PlusOne(run), Doubled())
    unit = run.begin(step="double", table="doubled", key="s", fingerprint="f" * 64)
    unit.write(Chunk(0, 0, ROWS), pa.table({"number": range(ROWS)}))
    if finished:
        run.finish(unit, [Chunk(0, 0, ROWS)])
    complete(run, PlusOne(run), Doubled())
    assert run.keys("doubled") == [] and not list((tmp_path / "doubled").glob("*.parquet"))


def test_its_settings_are_part_of_what_the_next_step_is_named_by(tmp_path: Path) -> None:
    run, first, last = RunFolder(str(tmp_path)), Doubled(3), PlusOne(RunFolder(str(tmp_path)))
    before = complete(run, PlusOne(run), Doubled()).results[0].fingerprint
    after = complete(run, last, first).results[0].fingerprint
    assert before != after and run.read("plus")["number"].to_pylist() == [1, 4, 7, 10, 13, 16, 19]
    cut = complete(run, PlusOne(run), Doubled(3), chunk=2).results[0].fingerprint
    assert cut == after, "another cut changes no value"
