"""The sample stages with a note of the node that each chunk was done on, and a driver of them in a process of its own.

python -m tests.multinode.samples JSON: `what` (map or gather), `run`, `calls`, `engine` (settings), `stage` (settings), `rows`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.config import EngineConfig
from scuba_ray.errors import ScubaError
from scuba_ray.protocols import Engine, Resources, StageOutput
from scuba_ray.tables.store import RunFolder
from tests.engines.gather_samples import Held, Sums, gather
from tests.engines.samples import Squares, complete, cut


def here() -> str:
    """The node this process is on."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else "local"


class PlacedSquares(Squares):
    """Leaves files `at-NODE-NUMBER` in `calls`."""

    def __call__(self, rows: pa.Table) -> StageOutput:
        (Path(self.calls) / f"at-{here()}-{rows['voxel_id'][0]}").touch()
        return super().__call__(rows)


class PlacedSums(Sums):
    """Leaves files `at-NODE-FIRST` in `calls`, FIRST the first segment held there."""

    def hold(self, first: int, stop: int) -> Held:
        Path(self.calls).mkdir(parents=True, exist_ok=True)
        (Path(self.calls) / f"at-{here()}-{first}").touch()
        return super().hold(first, stop)


def places(calls: Path) -> dict[str, set[int]]:
    """What was done on which node."""
    found: dict[str, set[int]] = {}
    for path in calls.glob("at-*"):
        _, node, number = path.name.split("-")
        found.setdefault(node, set()).add(int(number))
    return found


def work(engine: Engine, asked: dict[str, Any]) -> int:
    """Do what is asked on an engine; returns how many chunks there were to do."""
    run, chunks = RunFolder(asked["run"]), cut(asked.get("rows", 40))
    settings = dict(asked.get("stage", {}))
    resources = Resources(**settings.pop("resources", {"cpus": 0.5}))
    if asked["what"] == "gather":
        return len(gather(run, engine, PlacedSums(Path(asked["calls"]), resources=resources, **settings), chunks))
    stage = PlacedSquares(Path(asked["calls"]), **settings)
    stage.resources = resources
    return len(complete(run, engine, stage, chunks))


def main() -> None:
    asked = json.loads(sys.argv[1])
    try:
        with RayEngine(EngineConfig(name="ray", **asked["engine"])) as engine:
            if asked.get("shared"):
                engine.check_shared(asked["run"])
            print(json.dumps({"receipts": work(engine, asked)}), flush=True)
    except ScubaError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)


if __name__ == "__main__":
    main()
