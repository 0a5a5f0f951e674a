"""Actors that hold a bank and die: replaced, their segments held again, the same bytes; and told of when it is too often."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.config import EngineConfig
from scuba_ray.errors import WorkerError
from scuba_ray.local import LocalEngine
from scuba_ray.tables.store import RunFolder
from tests.engines.gather_samples import KEY, TABLE, Sums, calls_of, gather
from tests.engines.samples import cut, files_of


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with RayEngine(EngineConfig(max_workers=3, retries=1)) as started:
        yield started


slow = partial(pytest.param, marks=pytest.mark.slow)


def kill_in_time(stage: Sums, first: int, after: int, delay: float) -> threading.Thread:
    """Kill the holder of the segments from `first` on, `delay` seconds after it has begun its answer number `after`."""

    def kill() -> None:
        Path(stage.calls).mkdir(parents=True, exist_ok=True)
        while len(calls_of(stage, f"answer-{first}-")) < after:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(int(calls_of(stage, f"hold-{first}-")[0].split("-")[3]), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("first", "width"), [(0, 16), (6, 30_000), slow(3, 30_000), slow(6, 16)])
def test_any_holder_killed_at_any_moment_costs_no_bit(engine: RayEngine, tmp_path: Path, first: int, width: int) -> None:
    settings = {"segments": 9, "together": 2, "width": width}
    with LocalEngine(EngineConfig()) as local:
        gather(RunFolder(str(tmp_path / "local")), local, Sums(tmp_path / "local calls", **settings), cut(40, 5))
    stage = Sums(tmp_path / "calls", seconds=0.2, held=f"{first} {width}", **settings)
    chance = random.Random()
    after, delay = chance.randint(1, 3), chance.uniform(0, 0.3)
    killer = kill_in_time(stage, first, after, delay)
    run = RunFolder(str(tmp_path / "run"))
    gather(run, engine, stage, cut(40, 5))
    killer.join()
    assert files_of(tmp_path / "run") == files_of(tmp_path / "local"), (after, delay)
    assert len(calls_of(stage, f"hold-{first}-")) == 2, "its replacement has loaded its run again"
    assert len(calls_of(stage, "hold-")) == 4, "and no other"


def test_a_question_that_kills_every_holder_fails_the_step_and_the_rest_is_kept(
    engine: RayEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(str(tmp_path / "run"))
    stage = Sums(tmp_path / "calls", {"37 at 0": "die"}, together=1, held="deadly")
    with pytest.raises(WorkerError) as caught:
        gather(run, engine, stage, cut())
    assert str(caught.value).startswith("sum: its workers were lost more often than they are replaced (engine.retries=1)")
    assert "of 8 chunks were finished now. Finished chunks are kept; running again resumes." in str(caught.value)
    assert len(calls_of(stage, "hold-0-")) == 2
    kept = len(list((Path(run.location) / TABLE).glob("*.parquet")))
    assert kept > 0
    assert capfd.readouterr() == ("", "")
    assert len(gather(run, engine, Sums(tmp_path / "calls again", held="harmless"), cut())) == 8 - kept
    assert run.rows(TABLE, KEY) == 39


def test_a_holder_that_dies_while_it_loads_is_replaced(engine: RayEngine, tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls", {"hold": "die once"}, held="loading")
    gather(RunFolder(str(tmp_path / "run")), engine, stage, cut(10, 5))
    assert len(calls_of(stage, "hold-")) == 4
