"""Rows that failed for reasons outside the data: a run finishes without them, the next one computes them and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.errors import DataError
from scuba_ray.protocols import BadRow, Chunk, Engine, Resources, StageOutput
from scuba_ray.tables.schemas import CAPTIONS
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder


class Service:
    """A caption stage that a service stands behind; `silent` are the voxels it has no answer for."""

    name, version, table = "caption", 1, "captions"
    resources = Resources()
    input_columns = ("voxel_id",)
    input_name = "table projections"

    def __init__(self, silent: set[int], *, retry: bool = True) -> None:
        self.silent, self.retry = silent, retry
        self.asked: list[int] = []

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def setup(self) -> None: ...

    def read(self, chunk: Chunk) -> pa.Table:
        return pa.table({"voxel_id": pa.array(range(chunk.start, chunk.stop), pa.int64())})

    def __call__(self, rows: pa.Table) -> StageOutput:
        voxels = rows["voxel_id"].to_pylist()
        self.asked += voxels
        said = pa.array([voxel for voxel in voxels if voxel not in self.silent], pa.int64())
        columns: dict[str, Any] = {field.name: pa.nulls(len(said), field.type) for field in CAPTIONS}
        bad = tuple(BadRow(f"voxel_id={voxel}", "no answer", self.retry) for voxel in voxels if voxel in self.silent)
        return StageOutput(pa.table({**columns, "voxel_id": said}, CAPTIONS), bad)


def no_engine() -> Engine:
    raise AssertionError("everything is computed here")


def complete(folder: Path, stage: Service) -> tuple[str, int, list[str]]:
    """Name of the result, its rows and the warnings of a run of one step."""
    steps = Steps(RunFolder(str(folder)), no_engine, about={})
    result = steps.complete(stage, key="s/b", rows=10, chunk=4, inputs=[], here=True)
    return result.fingerprint, result.rows, steps.warnings


def test_the_next_run_computes_the_chunks_that_lack_rows_and_no_others(tmp_path: Path) -> None:
    name, rows, warnings = complete(tmp_path, Service({5, 9}))
    assert rows == 8
    assert len(warnings) == 1 and "2 of 10 rows of table projections are left to the next run" in warnings[0]
    assert "voxel_id=5: no answer" in warnings[0]
    again = Service({9})
    second, rows, _ = complete(tmp_path, again)
    assert (again.asked, rows) == ([4, 5, 6, 7, 8, 9], 9)
    healthy = Service(set())
    third, rows, warnings = complete(tmp_path, healthy)
    assert (healthy.asked, rows, warnings) == ([8, 9], 10, [])
    assert len({name, second, third}) == 3, "what is not whole has a name of its own, so that later steps follow"
    assert third == complete(tmp_path / "other", Service(set()))[0], "and what is whole the same name as if all had gone well"
    assert RunFolder(str(tmp_path)).quarantine().num_rows == 0
    resumed = Service(set())
    complete(tmp_path, resumed)
    assert resumed.asked == []


def test_a_service_that_is_silent_for_all_leaves_an_empty_table_and_a_warning(tmp_path: Path) -> None:
    _, rows, warnings = complete(tmp_path, Service(set(range(10))))
    assert rows == 0 and "10 of 10 rows" in warnings[0]
    assert RunFolder(str(tmp_path)).read("captions").num_rows == 0
    assert complete(tmp_path, Service(set()))[1] == 10


def test_rows_at_fault_themselves_are_not_tried_again(tmp_path: Path) -> None:
    _, rows, warnings = complete(tmp_path, Service({5}, retry=False))
    assert (rows, warnings) == (9, [])
    again = Service(set())
    assert complete(tmp_path, again)[1] == 9 and again.asked == []
    with pytest.raises(DataError, match="not one of the 10 rows"):
        complete(tmp_path / "all", Service(set(range(10)), retry=False))
