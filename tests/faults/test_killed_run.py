"""A run whose driver is killed, again and again, ends with the tables of one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from scuba_ray.config import make_config
from scuba_ray.pipeline import run
from scuba_ray.tables.store import RunFolder
from tests.study import TinyStudy, assert_equal_tables

DRIVER = """
import json, sys
from scuba_ray.config import make_config
from scuba_ray.pipeline import run
run(make_config(json.load(sys.stdin)))
"""


def parts(out: Path) -> int:
    """Parts that stay: those of single trials are deleted when the responses are complete."""
    return len([path for path in out.glob("*/*.parquet") if path.parent.name != "sessions"])


def test_sigkill_at_three_random_moments(study: TinyStudy, tmp_path: Path) -> None:
    whole = run(study.config(out=str(tmp_path / "whole")))
    out = tmp_path / "killed"
    settings = study.settings(out=str(out))
    moments = sorted(random.Random(1).sample(range(1, parts(Path(whole.location))), 3))
    for moment in moments:
        driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, text=True)
        assert driver.stdin is not None
        driver.stdin.write(json.dumps(settings))
        driver.stdin.close()
        while parts(out) < moment and driver.poll() is None:
            time.sleep(0.002)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, "it was killed, it did not end"
        assert parts(out) >= moment
    survivors = {path: path.stat().st_mtime_ns for path in out.glob("*/*.parquet") if path.parent.name != "sessions"}
    finished = run(make_config(settings))
    assert_equal_tables(whole, finished)
    assert all(path.stat().st_mtime_ns == written for path, written in survivors.items()), "nothing was computed twice"
    assert RunFolder(str(out)).read_run_json()["complete"] is True
