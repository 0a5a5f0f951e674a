"""Workers that die: replaced as often as allowed, their chunk done again, and told of when it is too often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.config import EngineConfig
from scuba_ray.errors import WorkerError
from scuba_ray.tables.store import RunFolder
from tests.engines.samples import KEY, TABLE, Squares, complete, cut


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with RayEngine(EngineConfig(max_workers=2, retries=1)) as started:
        yield started


def test_a_dead_worker_is_replaced_and_its_chunk_done_again(engine: RayEngine, tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    receipts = complete(run, engine, Squares(tmp_path / "calls", {12: "die once"}), cut())
    assert sorted(receipt.chunk.index for receipt in receipts) == list(range(8))
    assert run.rows(TABLE, KEY) == 40
    assert run.quarantine().num_rows == 0


def test_a_chunk_that_kills_every_worker_fails_the_step_and_the_rest_is_kept(
    engine: RayEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(str(tmp_path / "run"))
    stage = Squares(tmp_path / "calls", {37: "die"})
    with pytest.raises(WorkerError) as caught:
        complete(run, engine, stage, cut())
    assert str(caught.value).startswith("square: its workers were lost more often than they are replaced (engine.retries=1)")
    assert "of 8 chunks were finished now. Finished chunks are kept; running again resumes." in str(caught.value)
    attempts = [path for path in (tmp_path / "calls").iterdir() if path.name.startswith("00035-")]
    assert len(attempts) == 2
    kept = len(list((Path(run.location) / TABLE).glob("*.parquet")))
    assert kept > 0
    assert capfd.readouterr() == ("", "")

    assert len(complete(run, engine, Squares(tmp_path / "calls again"), cut())) == 8 - kept
    assert run.rows(TABLE, KEY) == 40
