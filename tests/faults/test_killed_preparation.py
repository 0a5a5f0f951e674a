"""A run killed in either pass over the responses goes on where it was, and ends with the same responses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scuba_ray.pipeline import run
from scuba_ray.tables.store import RunFolder
from tests.study import TinyStudy, assert_equal_tables

KILLED_AFTER = """
import json, os, signal, sys
from scuba_ray.config import make_config
from scuba_ray.pipeline import run
from scuba_ray.tables.parts import Unit
write, seen = Unit.write, []
def killed(unit, chunk, table, bad=()):
    entry = write(unit, chunk, table, bad)
    seen.append(unit.table)
    if seen[-1] == sys.argv[1] and seen.count(sys.argv[1]) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return entry
Unit.write = killed
run(make_config(json.load(sys.stdin)))
"""


@pytest.fixture(scope="module")
def whole(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(study.config(out=str(tmp_path_factory.mktemp("whole"))))


@pytest.mark.parametrize(("table", "parts"), [("sessions", 1), ("sessions", 2), ("responses", 1), ("responses", 3)])
def test_a_killed_pass_is_resumed(study: TinyStudy, whole: RunFolder, tmp_path: Path, table: str, parts: int) -> None:
    settings = study.settings(out=str(tmp_path))
    command = [sys.executable, "-c", KILLED_AFTER, table, str(parts)]
    killed = subprocess.run(command, input=json.dumps(settings), text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("responses/*.parquet")}
    assert len(list(tmp_path.glob(f"{table}/*.parquet"))) == parts
    finished = run(study.config(out=str(tmp_path)))
    steps = finished.read_run_json()["steps"]
    assert steps["read subj01"]["computed_chunks"] == (2 - parts if table == "sessions" else 0)
    assert steps["prepare subj01"]["computed_chunks"] == (3 if table == "sessions" else 3 - parts)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "nothing was computed twice"
    assert finished.keys("sessions") == [] and not list(tmp_path.glob("sessions/*.parquet"))
    assert_equal_tables(whole, finished)
