"""Nodes that run something else than the driver: refused by name, or told; and what a worker that came later does about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import scuba_ray
from scuba_ray.actors.chunk_workers import ChunkWorker, Preparer, receipt_of
from scuba_ray.actors.versions import check_this_process, installed
from scuba_ray.errors import ConfigError
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.worker import StageTask
from tests.engines.samples import Resources, Squares, begin

PACKAGE = Path(scuba_ray.__file__).parent

SCRIPT = """
import json, os, sys
from ray.cluster_utils import Cluster
from scuba_ray import doctor
from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.actors.versions import installed
from scuba_ray.config import EngineConfig
from scuba_ray.errors import ConfigError

changed, older, torch = sys.argv[1:]
size = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
others = [cluster.add_node(**size, env_vars={"PYTHONPATH": folder}) for folder in (changed, older)]
cluster.wait_for_nodes()

def engine():
    return RayEngine(EngineConfig(name="ray", address=cluster.address))

said = {"driver": installed()["code"]}
with engine() as joined:
    try:
        joined.check_versions()
    except ConfigError as error:
        said["refused"] = str(error)
said["doctor refused"] = [finding.state for finding in doctor._cluster(cluster.address)]
for node in others:
    cluster.remove_node(node)
with engine() as joined:
    said["alike"] = joined.check_versions()
cluster.add_node(**size, env_vars={"PYTHONPATH": f"{torch}:{os.environ['PYTHONPATH']}"})
cluster.wait_for_nodes()
with engine() as joined:
    said["differences"] = joined.check_versions()
said["doctor told"] = [(finding.state, finding.found) for finding in doctor._cluster(cluster.address)]
cluster.shutdown()
print(json.dumps(said))
"""


def copy_of_package(folder: Path) -> Path:
    """The modules of scuba_ray, first on the path of whoever gets `folder` as PYTHONPATH."""
    for path in PACKAGE.rglob("*.py"):
        target = folder / "scuba_ray" / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder / "scuba_ray"


def test_nodes_that_run_something_else_are_refused_by_name_or_told(tmp_path: Path) -> None:
    copy_of_package(tmp_path / "driver")  # the tree that is tested may be edited meanwhile
    changed = copy_of_package(tmp_path / "changed")
    with (changed / "core" / "ridge.py").open("a") as module:
        module.write("\n# another formula\n")
    older = copy_of_package(tmp_path / "older")
    (older / "actors" / "versions.py").unlink()
    torch = tmp_path / "torch" / "torch-0.1.dist-info"
    torch.mkdir(parents=True)
    (torch / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")

    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "changed"), str(tmp_path / "older"), str(tmp_path / "torch")]
    quiet = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(tmp_path / "driver")}
    ended = subprocess.run(command, capture_output=True, text=True, env=quiet, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])

    assert "has code " in said["refused"]
    assert f"the driver has code {said['driver']}" in said["refused"]
    assert "has no scuba_ray that answers (ModuleNotFoundError: No module named 'scuba_ray.actors.versions')" in said["refused"]
    assert "the same wheel" in said["refused"]
    assert said["refused"].count("; the driver has") == 1, "the head's node runs what the driver runs"
    assert said["doctor refused"] == ["ok", "problem"]
    assert said["alike"] == []
    (difference,) = said["differences"]
    assert "has torch 0.1; the driver has torch " + installed()["torch"] in difference
    assert said["doctor told"][1] == ["note", difference]


def other(**changes: str) -> dict[str, str]:
    """What a driver says that runs something else than this process."""
    return {**installed(), "place": "another:place", **changes}


@pytest.mark.parametrize("changes", [{"code": "0123456789ab"}, {"scuba_ray": "0.0.1"}, {"Python": "3.1.4"}, {"ray": "1.0"}])
def test_a_worker_that_runs_something_else_computes_nothing(changes: dict[str, str], tmp_path: Path) -> None:
    stage = Squares(tmp_path / "calls")
    task = StageTask(stage, begin(RunFolder(str(tmp_path / "run")), stage))
    chunk = pa.table({"index": [0], "start": [0], "stop": [5]})
    (answer,) = ChunkWorker(task, 1, 0, other(**changes))(chunk).to_pylist()
    with pytest.raises(
        ConfigError, match=r"a worker does not run what the driver runs: node .* has .*; the driver has "
    ) as caught:
        receipt_of(answer)
    assert next(iter(changes.values())) in str(caught.value)
    assert not (tmp_path / "calls").exists()
    (answer,) = ChunkWorker(task, 1, 0, installed())(chunk).to_pylist()
    assert receipt_of(answer).rows == 5


def test_a_worker_that_only_prepares_holds_itself_against_the_driver_too(tmp_path: Path) -> None:
    class Prepared(Squares):
        preparation = Resources(cpus=1)

        def prepare(self, rows: pa.Table) -> pa.Table:
            return rows

    stage = Prepared(tmp_path / "calls")
    task = StageTask(stage, begin(RunFolder(str(tmp_path / "run")), stage))
    chunk = pa.table({"index": [0], "start": [0], "stop": [5]})
    assert Preparer(task, 0, other(code="0"))(chunk)["error"].to_pylist() == ["ConfigError"]
    assert Preparer(task, 0, installed())(chunk)["error"].to_pylist() == [None]


def test_what_need_not_agree_does_not_stop_a_worker() -> None:
    patch = installed()["Python"].rpartition(".")[0] + ".99"
    check_this_process(other(torch="0.1", numpy="0.1", Python=patch))
    check_this_process(other(code="edited since", place=installed()["place"]))
