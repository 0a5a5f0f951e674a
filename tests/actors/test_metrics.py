"""A whole run on somebody's cluster: its tables are those of a local one, and what it counts stands at the nodes' Prometheus
endpoints with the values of its tables, also when its driver has gone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scuba_ray.pipeline import run as complete_run
from scuba_ray.tables import manifest
from scuba_ray.tables.store import RunFolder
from tests.study import TABLES, TinyStudy, assert_equal_tables

OPEN = {**os.environ, "RAY_AUTH_MODE": "disabled"}
DRIVER = """
import json, sys
import ray
from scuba_ray import methods
from scuba_ray.config import make_config
from scuba_ray.pipeline import run
settings = json.load(sys.stdin)
ray.init(address=settings["engine"]["address"], logging_level="ERROR")
ports = [node["MetricsExportPort"] for node in ray.nodes()]
methods.PREPARED_HERE = -1  # small as it is, prepare it on the engine
folder = run(make_config(settings))
print(json.dumps({"ports": ports, "run": folder.read_run_json()["run_id"]}))
"""
SQUARES = """
import json, sys
import ray
from pathlib import Path
from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.config import EngineConfig
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.worker import StageTask
from tests.actors.test_metrics import awaited
from tests.engines.samples import Squares, begin, cut

stage, run = Squares(Path(sys.argv[1]) / "calls", {7: "row", 12: "disk once", 21: "die once"}), RunFolder(sys.argv[1] + "/run")
with RayEngine(EngineConfig(address=sys.argv[2], max_workers=1, retries=2)) as engine:
    ports = [node["MetricsExportPort"] for node in ray.nodes()]
    task = StageTask(stage, begin(run, stage), "faults")
    bytes = sum(receipt.bytes for receipt in engine.map(task, cut()))
    awaited(ports, "faults", {("scuba_chunks_left", "square", task.unit.table)})  # goes with its driver
print(json.dumps({"ports": ports, "bytes": bytes}))
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one node that somebody else started."""
    command = [sys.executable, "-m", "tests.engines.head", "1"]
    head = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=OPEN
    )
    assert head.stdin is not None and head.stdout is not None
    try:
        yield head.stdout.readline().strip()
    finally:
        head.stdin.close()
        head.wait(60)


def driven(script: str, *arguments: str, given: str = "") -> dict[str, object]:
    """What a driver printed that has come and gone."""
    command = [sys.executable, "-c", script, *arguments]
    ended = subprocess.run(command, input=given, capture_output=True, text=True, env=OPEN, check=False)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return answer


def scraped(ports: list[int], run: str) -> dict[tuple[str, str, str], float]:
    """(metric, step, table) to value, of one run, as they are now."""
    found = {}
    for port in ports:
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        except urllib.error.URLError:
            continue
        for name, labels, value in re.findall(r"^ray_(scuba_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            known = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if known["run"] == run and "le" not in known:
                found[name, known["step"], known["table"]] = float(value)
    return found


def awaited(ports: object, run: str, wanted: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], float]:
    """The metrics of a run, as soon as all that are `wanted` are there: Ray sends them every ten seconds."""
    assert isinstance(ports, list)
    deadline = time.monotonic() + 60
    while not wanted <= set(found := scraped(ports, run)):
        assert time.monotonic() < deadline, f"{wanted - set(found)} did not come; there are {sorted(found)}"
        time.sleep(0.5)
    return found


def test_a_whole_run_has_the_tables_of_a_local_one_and_their_numbers_as_metrics(
    address: str, study: TinyStudy, tmp_path: Path
) -> None:
    engine = {"name": "ray", "address": address, "max_workers": 1, "cpus_per_worker": 0.5}
    fit = {"chunk": 5, "permutations": 50, "folds": 3, "alphas": 5}
    settings = study.settings(out=str(tmp_path / "run"), fit=fit, engine=engine)
    (study.folder / "pictures" / "notes.png").write_bytes(b"no picture")
    try:
        told = driven(DRIVER, given=json.dumps(settings))
        local = complete_run(study.config(out=str(tmp_path / "local"), fit=fit))
    finally:
        (study.folder / "pictures" / "notes.png").unlink()
    folder, run = RunFolder(str(tmp_path / "run")), str(told["run"])
    assert_equal_tables(local, folder, (*TABLES, "bands"))
    assert local.quarantine().equals(folder.quarantine()) and len(folder.quarantine()) == 1
    files = [
        sorted(str(path.relative_to(one.location)) for path in Path(one.location).glob("*/*.parquet")) for one in (local, folder)
    ]
    assert files[0] == files[1], "engine and worker counts are no part of a fingerprint"
    steps = {"encode": "embeddings", "bank": "bank", "project": "projections", "caption": "captions"}
    found = awaited(told["ports"], run, {("scuba_rows_total", step, table) for step, table in steps.items()})
    for step, table in steps.items():
        units = manifest.load(folder.location, table).values()
        assert found["scuba_rows_total", step, table] == sum(unit.rows for unit in units)
        assert found["scuba_bytes_written_total", step, table] == sum(unit.bytes for unit in units)
        assert found["scuba_chunk_seconds_count", step, table] == sum(len(unit.parts) for unit in units)
    images = {step: found.get(("scuba_images_total", step, table)) for step, table in steps.items()}
    assert images == {
        "encode": folder.read("embeddings").num_rows,
        "bank": folder.read("bank").num_rows,
        "project": None,
        "caption": None,
    }
    bad = {name[1:]: value for name, value in found.items() if name[0] == "scuba_bad_rows_total"}
    assert bad == {("bank", "bank"): 1}, "one file is no picture"


@pytest.mark.slow
def test_what_was_tried_again_is_counted_once(address: str, tmp_path: Path) -> None:
    told = driven(SQUARES, str(tmp_path), address)
    labels = ("square", "analyses/squares")
    wanted = {(f"scuba_{name}", *labels) for name in ("rows_total", "bad_rows_total", "bytes_written_total")}
    found = awaited(told["ports"], "faults", wanted)
    assert found["scuba_rows_total", *labels] == 39, "one row of forty has no square"
    assert found["scuba_bad_rows_total", *labels] == 1
    assert found["scuba_bytes_written_total", *labels] == told["bytes"]
    assert found["scuba_chunk_seconds_count", *labels] == 8
