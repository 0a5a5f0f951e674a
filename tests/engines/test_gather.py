"""What `gather` means, on every engine: the same bytes, the same errors, the same resuming, however many hold the segments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from scuba_ray.config import EngineConfig
from scuba_ray.core.tree import Forest
from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.protocols import Engine, Resources
from scuba_ray.registry import resolve
from scuba_ray.tables.store import RunFolder
from tests.engines.gather_samples import KEY, TABLE, Sums, calls_of, drawn, gather
from tests.engines.samples import Squares, complete, cut, files_of

FILES: dict[str, dict[str, bytes]] = {}
"""What each engine wrote in the test of equal bytes."""


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    """One Ray for all engines of this module: those that come later find it running and leave it so."""
    with resolve("engine", "ray")(EngineConfig(name="ray")):
        yield


@pytest.fixture(scope="module", params=["local", "ray 2"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    name, _, workers = request.param.partition(" ")
    if name == "ray":
        request.getfixturevalue("started")
    with resolve("engine", name)(EngineConfig(name=name, max_workers=int(workers or 1), retries=1)) as entered:
        yield entered


def holders(engine: Engine) -> int:
    return engine.config.max_workers  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "engine",
    ["local", pytest.param("ray 1", marks=pytest.mark.slow), "ray 2", pytest.param("ray 3", marks=pytest.mark.slow)],
    indirect=True,
)
def test_each_chunk_once_the_same_to_the_last_bit(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls")
    receipts = gather(run, engine, stage, cut(43, 5))
    assert sorted((r.chunk.index, r.rows, r.bad_rows) for r in receipts) == [
        (i, {2: 4, 8: 3}.get(i, 5), int(i == 2)) for i in range(9)
    ]
    table = run.read(TABLE)
    numbers = [number for number in range(43) if number != 13]
    assert table["voxel_id"].to_pylist() == numbers
    forest = Forest(np.add)
    for segment in range(7):
        forest.add((0, segment), drawn(numbers, segment, 16))
    np.testing.assert_array_equal(np.stack(table["vector"].to_pylist()), forest.fold())
    assert run.quarantine()["key"].to_pylist() == ["voxel_id=13"]
    assert len(calls_of(stage, "hold")) == holders(engine), "each holds its run once"
    assert len(calls_of(stage, "answer")) == 3 * holders(engine), "nine chunks, three a pass"
    FILES[f"{engine.name} {holders(engine)}"] = written = files_of(Path(run.location))
    assert all(other == written for other in FILES.values())
    assert gather(run, engine, stage, cut(43, 5)) == []
    assert files_of(Path(run.location)) == written


def test_what_is_held_is_held_until_something_else_is_asked_for(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls", held=f"kept {engine.name}")
    gather(run, engine, stage, cut(10, 5))
    gather(run, engine, Sums(tmp_path / "calls", held=stage.held), cut(15, 5), key="subj02/tiny")
    assert len(calls_of(stage, "hold")) == holders(engine)
    gather(run, engine, Sums(tmp_path / "calls", held="other"), cut(15, 5), key="subj03/tiny")
    assert len(calls_of(stage, "hold")) == 2 * holders(engine)


def test_answers_too_large_for_a_message(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls", width=30_000, held="large")
    gather(run, engine, stage, cut(10, 2))
    forest = Forest(np.add)
    for segment in range(7):
        forest.add((0, segment), drawn(list(range(10)), segment, 30_000))
    np.testing.assert_array_equal(np.stack(run.read(TABLE)["vector"].to_numpy()), forest.fold())


@pytest.mark.parametrize("where", ["hold", "merge"])
def test_a_configuration_error_stays_one_wherever_it_happens(engine: Engine, run: RunFolder, tmp_path: Path, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gather(run, engine, Sums(tmp_path / "calls", {where: "config"}, held=f"config {where}"), cut())
    assert str(caught.value) == "sum.of must not be seven, got 7"
    stage = Sums(tmp_path / "calls again", held=f"again {where}")
    gather(run, engine, stage, cut())
    assert run.rows(TABLE, KEY) == 39


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("question", "sum failed on chunk 0 (rows 0 to 5): RuntimeError: no sums today. Finished chunks are kept"),
        ("7 at 0", "sum failed on chunk 0 (rows 0 to 5): RuntimeError: no sums today"),
        ("finish 5", "sum failed on chunk 1 (rows 5 to 10): RuntimeError: no sums today"),
    ],
)
def test_an_unexpected_error_says_step_chunk_and_reason(
    engine: Engine, run: RunFolder, tmp_path: Path, where: str, words: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        gather(run, engine, Sums(tmp_path / "calls", {where: "broken"}, held=f"broken {where}"), cut())
    assert str(caught.value).startswith(words)
    if engine.name == "ray" and where != "question":
        assert any("gather_samples.py" in note for note in caught.value.__notes__), "the worker's traceback"


def test_a_disk_that_was_away_is_tried_again(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    faults = dict.fromkeys(("hold", "7 at 0", "finish 5"), "disk once")
    gather(run, engine, Sums(tmp_path / "calls", faults, held="disk"), cut())
    assert run.rows(TABLE, KEY) == 39


def test_no_chunks_are_no_work(engine: Engine) -> None:
    assert list(engine.gather(None, [])) == []  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray 2"], indirect=True)
def test_a_pool_that_needs_the_room_gets_it(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls", held="beside")
    gather(run, engine, stage, cut(10, 5))
    small = Squares(tmp_path / "squares")
    complete(run, engine, small, cut())
    gather(run, engine, stage, cut(10, 5), key="subj02/tiny")
    assert len(calls_of(stage, "hold")) == 2, "there was room beside"
    large = Squares(tmp_path / "squares")
    large.resources = Resources(cpus=0.9)
    complete(run, engine, large, cut(), key="subj02/tiny")
    gather(run, engine, stage, cut(10, 5), key="subj03/tiny")
    assert len(calls_of(stage, "hold")) == 4


@pytest.mark.parametrize("engine", ["ray 2"], indirect=True)
def test_holders_that_fit_nowhere_are_refused(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls", held="nowhere", resources=Resources(cpus=512))
    with pytest.raises(ConfigError, match=r"sum needs 1 worker of 512 CPUs, 0 GPUs each; the Ray cluster has .* which holds 0"):
        gather(run, engine, stage, cut())


@pytest.mark.parametrize("engine", ["ray 2"], indirect=True)
def test_there_are_never_more_holders_than_segments_or_room(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    few = Sums(tmp_path / "few", segments=1, held="few")
    gather(run, engine, few, cut())
    assert [name.rpartition("-")[0] for name in calls_of(few, "hold")] == ["hold-0-1"]
    large = Sums(tmp_path / "large", held="large", resources=Resources(cpus=ray.cluster_resources()["CPU"]))
    gather(run, engine, large, cut(), key="subj02/tiny")
    assert [name.rpartition("-")[0] for name in calls_of(large, "hold")] == ["hold-0-7"]
