"""Nodes that are lost in mid-run: the work goes to those that stay, to the byte; without any, an error in words, and resuming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scuba_ray.actors.last_words import WORDS
from scuba_ray.config import EngineConfig
from scuba_ray.local import LocalEngine
from tests.engines.gather_samples import TABLE as SUMS
from tests.engines.samples import TABLE as SQUARES
from tests.engines.samples import files_of
from tests.multinode.samples import places, work
from tests.multinode.watching import Nodes, Timeline, answer, cluster, driver

ROWS = 60
TABLES = {"map": SQUARES, "gather": SUMS}


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """A head without cores: work goes elsewhere."""
    with cluster() as started:
        yield started


def asked(folder: Path, what: str, address: str, **changes: Any) -> dict[str, Any]:
    settings = {"width": 30_000} if what == "gather" else {}
    return {
        "what": what,
        "run": str(folder / "run"),
        "calls": str(folder / "calls"),
        "rows": ROWS,
        "stage": {"seconds": 1.0, **settings, **changes.pop("stage", {})},
        "engine": {"address": address, "max_workers": 2, "retries": 1, **changes},
    }


def parts(folder: Path, what: str) -> int:
    return len(list((folder / "run" / TABLES[what]).glob("*.parquet")))


def undisturbed(folder: Path, what: str) -> dict[str, bytes]:
    """Files of a run that this process made alone."""
    wanted = asked(folder / "alone", what, "", stage={"seconds": 0.0})
    with LocalEngine(EngineConfig()) as local:
        work(local, wanted)
    return files_of(folder / "alone" / "run")


@pytest.mark.parametrize("what", [pytest.param("map", marks=pytest.mark.slow), "gather"])
def test_a_node_lost_in_mid_run_costs_time_and_no_byte(nodes: Nodes, tmp_path: Path, what: str) -> None:
    timeline = Timeline()
    stays, goes = nodes.add(), nodes.add()
    timeline.say("two nodes are up")
    with driver(asked(tmp_path, what, nodes.address)) as running:
        timeline.wait(lambda: parts(tmp_path, what) >= 2 and len(places(tmp_path / "calls")) == 2, "both work", running)
        nodes.kill(goes)
        before = parts(tmp_path, what)
        timeline.say(f"one is lost with {before} of 12 parts written")
        timeline.wait(lambda: parts(tmp_path, what) > before + 2, "the other goes on", running)
        assert answer(running) == {"receipts": 12}
    timeline.say("done")
    assert set(places(tmp_path / "calls")) == {stays, goes}
    assert files_of(tmp_path / "run") == undisturbed(tmp_path, what)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [1, 3])
def test_workers_that_fit_nowhere_else_do_not_keep_the_others_waiting(nodes: Nodes, tmp_path: Path, retries: int) -> None:
    """Each node has one GPU: a lost node's worker finds none, its chunks go to the other's."""
    timeline = Timeline()
    goes = [nodes.add(gpus=1), nodes.add(gpus=1)][1]
    wanted = asked(tmp_path, "map", nodes.address, stage={"resources": {"cpus": 0.5, "gpus": 1}}, retries=retries)
    with driver(wanted) as running:
        timeline.wait(lambda: parts(tmp_path, "map") >= 2 and len(places(tmp_path / "calls")) == 2, "both work", running)
        nodes.kill(goes)
        timeline.say("one is lost")
        assert answer(running) == {"receipts": 12}
    timeline.say("done")
    assert files_of(tmp_path / "run") == undisturbed(tmp_path, "map")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["map", "gather"])
def test_no_node_left_is_an_error_in_words_and_the_rest_is_resumed(nodes: Nodes, tmp_path: Path, what: str) -> None:
    timeline = Timeline()
    only = nodes.add()
    with driver(asked(tmp_path, what, nodes.address)) as running:
        timeline.wait(lambda: parts(tmp_path, what) >= 2, "it works", running)
        nodes.kill(only)
        timeline.say("the only node with cores is lost")
        said = answer(running)
    timeline.say(f"told: {said}")
    assert said["error"] == "WorkerError"
    assert "nodes were lost" in said["message"] and "which holds 0" in said["message"]
    assert "of 12 chunks were finished now. Finished chunks are kept; running again resumes." in said["message"]
    kept = parts(tmp_path, what)
    nodes.add()
    with driver(asked(tmp_path, what, nodes.address)) as running:
        assert answer(running) == {"receipts": 12 - kept}
    timeline.say(f"resumed: {12 - kept} of 12 chunks were left")
    assert files_of(tmp_path / "run") == undisturbed(tmp_path, what)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["map", "gather"])
def test_a_lost_head_leaves_words_and_what_was_finished(nodes: Nodes, tmp_path: Path, what: str) -> None:
    timeline = Timeline()
    nodes.add()
    with driver(asked(tmp_path, what, nodes.address)) as running:
        timeline.wait(lambda: parts(tmp_path, what) >= 2, "it works", running)
        nodes.kill(nodes.head)
        timeline.say("the head is lost")
        out, errors = running.communicate(timeout=180)
    timeline.say(f"the driver ended with {running.returncode}")
    assert running.returncode == 1 and out == ""
    assert WORDS in errors
    kept = parts(tmp_path, what)
    with cluster(head_cpus=1) as other, driver(asked(tmp_path, what, other.address)) as running:
        assert answer(running) == {"receipts": 12 - kept}
    assert files_of(tmp_path / "run") == undisturbed(tmp_path, what)


@pytest.mark.slow
def test_a_node_lost_while_the_storage_is_looked_at_is_not_waited_for(nodes: Nodes, tmp_path: Path) -> None:
    timeline = Timeline()
    goes = [nodes.add(), nodes.add()][1]
    nodes.kill(goes)
    timeline.say("a node is lost; the head does not know yet")
    with driver(asked(tmp_path, "map", nodes.address, stage={"seconds": 0.0}) | {"shared": True}) as running:
        assert answer(running) == {"receipts": 12}
    timeline.say("done")
