"""Ray's own autoscaler: nodes come for a step that asks for GPUs, share its work, and go; what none could hold is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scuba_ray.config import EngineConfig
from scuba_ray.local import LocalEngine
from tests.engines.samples import files_of
from tests.multinode.samples import places, work
from tests.multinode.watching import WITHOUT_TOKEN, Timeline, answer, driver, process

ROWS = 100


class Head:
    """A head alone, and the nodes that its autoscaler adds."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        assert running.stdout is not None
        self.address = running.stdout.readline().strip()
        said = iter(running.stdout.readline, "")
        self.started = any("Ray runtime started" in line for line in said)
        self._process = psutil.Process(running.pid)

    def nodes(self) -> int:
        """How many nodes are up beside the head: each is a raylet."""
        raylets = 0
        for child in self._process.children(recursive=True):
            try:
                raylets += child.name() == "raylet" and child.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                continue
        return raylets - 1


@pytest.fixture(params=["2", pytest.param("1", marks=pytest.mark.slow)])
def head(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Head]:
    """`ray up` and KubeRay have the second autoscaler, a head that was started by hand has the first."""
    command = [sys.executable, "-m", "tests.autoscaling.head", request.param, str(tmp_path), json.dumps({"CPU": 1, "GPU": 1})]
    for _ in range(3):  # Ray gives a head 30 s, which it can miss where many other tests run
        with process(command, seconds=0, stderr=subprocess.DEVNULL, env={**os.environ, **WITHOUT_TOKEN}) as running:
            head = Head(running)
            if head.started:
                yield head
                return
    pytest.fail("no head could be started")


def asked(folder: Path, address: str, *, gpus: float, workers: int = 1) -> dict[str, Any]:
    return {
        "what": "map",
        "run": str(folder / "run"),
        "calls": str(folder / "calls"),
        "rows": ROWS,
        "stage": {"seconds": 0.5, "resources": {"cpus": 0.5, "gpus": gpus}},
        "engine": {"address": address, "min_workers": workers, "max_workers": 2, "grow_minutes": 5},
    }


def test_nodes_come_for_gpus_share_the_work_and_go(head: Head, tmp_path: Path) -> None:
    timeline = Timeline()
    with LocalEngine(EngineConfig()) as local:
        work(local, asked(tmp_path / "local", "", gpus=0) | {"stage": {}})
    parts = tmp_path / "ray" / "run" / "analyses" / "squares"
    timeline.wait(lambda: head.nodes() == 0, "the head is up, alone")
    with driver(asked(tmp_path / "ray", head.address, gpus=1, workers=2)) as running:
        timeline.wait(lambda: head.nodes() >= 1, "a first node comes", running)
        timeline.wait(lambda: head.nodes() == 2, "a second node comes", running)
        timeline.wait(lambda: any(parts.glob("*.parquet")), "the first chunk is done", running)
        assert answer(running) == {"receipts": ROWS // 5}
    shares = {node: len(numbers) for node, numbers in places(tmp_path / "ray" / "calls").items()}
    timeline.say(f"all chunks are done, by node: {sorted(shares.values())}")
    assert len(shares) == 2 and sum(shares.values()) == ROWS // 5
    assert files_of(tmp_path / "ray" / "run") == files_of(tmp_path / "local" / "run")

    with driver(asked(tmp_path / "large", head.address, gpus=3)) as running:
        timeline.wait(lambda: head.nodes() == 0, "both nodes have gone, idle", running)
        said = answer(running)
    timeline.say("a worker of 3 GPUs is refused")
    assert said["error"] == "NoRoomError"
    assert said["message"].startswith("square needs 1 worker of 0.5 CPUs, 3 GPUs each; the Ray cluster has ")
    assert "; its autoscaler launches no more nodes for that: none that it may add is large enough." in said["message"]
