"""The wrapper around a stage: its contract, its failing rows, and what is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.errors import ConfigError, ContractError, DataError, WorkerError
from scuba_ray.protocols import BadRow, Chunk, Receipt, Resources, StageOutput
from scuba_ray.tables import worker
from scuba_ray.tables.schemas import CAPTIONS
from scuba_ray.tables.store import RunFolder, Unit
from scuba_ray.tables.worker import StageTask, run_chunk

CHUNK = Chunk(3, 30, 40)


def captions(rows: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {field.name: pa.nulls(rows.num_rows, field.type) for field in CAPTIONS}
    return pa.table({**columns, "voxel_id": rows["voxel_id"].combine_chunks()}, CAPTIONS)


class Words:
    """A caption stage around a function; keeps the sizes of its calls."""

    name, version, table = "caption", 1, "captions"
    resources = Resources()
    input_columns: tuple[str, ...] = ("voxel_id",)
    input_name = "project"

    def __init__(self, of: Callable[[pa.Table], StageOutput]) -> None:
        self.of = of
        self.sizes: list[int] = []

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def setup(self) -> None: ...

    def read(self, chunk: Chunk) -> pa.Table:
        return pa.table({"voxel_id": pa.array(range(chunk.start, chunk.stop), pa.int64())})

    def __call__(self, rows: pa.Table) -> StageOutput:
        self.sizes.append(rows.num_rows)
        return self.of(rows)


def refusing(bad: set[int], error: type[Exception] = ValueError) -> Callable[[pa.Table], StageOutput]:
    def of(rows: pa.Table) -> StageOutput:
        wrong = bad & set(rows["voxel_id"].to_pylist())
        if wrong:
            raise error(f"no words for {min(wrong)}")
        return StageOutput(captions(rows))

    return of


@pytest.fixture
def run(tmp_path: Any) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def unit(run: RunFolder) -> Unit:
    return run.begin(step="caption", table="captions", key="s/b", fingerprint="a" * 64)


@pytest.mark.parametrize("bad", [{30}, {39}, {34, 35}, {30, 32, 34, 36, 38}, set(range(30, 39))])
def test_exactly_the_failing_rows_are_left_out_and_the_rest_is_computed_together(
    run: RunFolder, unit: Unit, bad: set[int]
) -> None:
    stage = Words(refusing(bad))
    receipt = StageTask(stage, unit)(CHUNK)
    assert (receipt.rows, receipt.bad_rows) == (10 - len(bad), len(bad))
    assert stage.sizes[-1] == 10 - len(bad)
    run.finish(unit, [CHUNK])
    assert run.read("captions")["voxel_id"].to_pylist() == [n for n in range(30, 40) if n not in bad]
    assert run.quarantine()["key"].to_pylist() == [f"voxel_id={n}" for n in sorted(bad)]
    assert run.quarantine()["reason"].to_pylist() == [f"ValueError: no words for {n}" for n in sorted(bad)]


def test_a_chunk_of_which_every_row_fails_is_an_error(unit: Unit) -> None:
    with pytest.raises(WorkerError, match=r"every row of chunk 3 \(10 rows\) failed; the first: voxel_id=30: ValueError"):
        StageTask(Words(refusing(set(range(30, 40)))), unit)(CHUNK)


def test_a_chunk_of_one_failing_row_is_an_empty_part(run: RunFolder, unit: Unit) -> None:
    chunk = Chunk(0, 30, 31)
    assert StageTask(Words(refusing({30})), unit)(chunk).bad_rows == 1
    run.finish(unit, [chunk])
    assert run.read("captions").num_rows == 0


def test_rows_the_stage_itself_gives_up_go_to_quarantine_too(run: RunFolder, unit: Unit) -> None:
    def of(rows: pa.Table) -> StageOutput:
        output = refusing({32})(rows)
        return StageOutput(output.table.slice(1), (BadRow("voxel_id=first", "unreadable"),))

    StageTask(Words(of), unit)(CHUNK)
    assert run.quarantine()["key"].to_pylist() == ["voxel_id=first", "voxel_id=32"]


@pytest.mark.parametrize("error", [ConfigError, ContractError, WorkerError, MemoryError, OSError])
def test_what_fewer_rows_cannot_help_is_not_bisected(unit: Unit, error: type[Exception]) -> None:
    stage = Words(refusing({33}, error))
    with pytest.raises(error, match="no words for 33"):
        StageTask(stage, unit)(CHUNK)
    assert stage.sizes == [10]


def test_a_data_error_of_one_row_is_that_row_s(run: RunFolder, unit: Unit) -> None:
    assert StageTask(Words(refusing({33}, DataError)), unit)(CHUNK).bad_rows == 1


def test_a_lacking_column_names_what_was_there_and_who_wrote_it(unit: Unit) -> None:
    stage = Words(refusing(set()))
    stage.input_columns = ("voxel_id", "embedding")
    with pytest.raises(ContractError) as caught:
        StageTask(stage, unit)(CHUNK)
    assert str(caught.value) == "caption got a table without 'embedding' (columns: voxel_id); written by: project"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns("nouns"), "nouns is absent, must be list<"),
        (lambda table: table.append_column("mood", table["caption"]), "mood does not belong there"),
        (lambda table: table.set_column(8, "nouns", table["rank"]), "nouns is int32, must be list<"),
        (lambda table: table.select(table.column_names[::-1]), "columns out of order"),
    ],
)
def test_a_wrong_output_is_a_contract_error_and_is_not_written(
    unit: Unit, change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    with pytest.raises(ContractError, match=f"caption made a wrong captions table: {words}"):
        StageTask(Words(lambda rows: StageOutput(change(captions(rows)))), unit)(CHUNK)
    with pytest.raises(DataError, match="is missing"):
        unit.examine(CHUNK)


class Flaky:
    """Fails with `error` the first `times` times."""

    name, resources = "flaky", Resources()

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def setup(self) -> None: ...

    def __call__(self, chunk: Chunk) -> Receipt:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return Receipt(chunk, 1, 0, 0.1)


@pytest.mark.parametrize(("times", "calls", "succeeds"), [(0, 1, True), (2, 3, True), (3, 3, False)])
def test_a_file_error_is_tried_again_as_often_as_allowed(
    monkeypatch: pytest.MonkeyPatch, times: int, calls: int, succeeds: bool
) -> None:
    monkeypatch.setattr(worker, "_PAUSE_SECONDS", 0.001)
    task = Flaky(OSError("away"), times)
    if succeeds:
        assert run_chunk(task, CHUNK, retries=2).rows == 1
    else:
        with pytest.raises(
            WorkerError, match=r"flaky failed on chunk 3 \(rows 30 to 40\): OSError: away. Finished chunks are kept"
        ):
            run_chunk(task, CHUNK, retries=2)
    assert task.calls == calls


@pytest.mark.parametrize("error", [ConfigError("wrong"), KeyError("x"), MemoryError("large")])
def test_nothing_else_is_tried_again(error: Exception) -> None:
    task = Flaky(error, 1)
    with pytest.raises(ConfigError if isinstance(error, ConfigError) else WorkerError):
        run_chunk(task, CHUNK, retries=5)
    assert task.calls == 1
