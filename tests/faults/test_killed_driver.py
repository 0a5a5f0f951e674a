"""A driver killed at any moment leaves a folder that the next one completes, to the byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engines.samples import files_of

DRIVER = [sys.executable, "-m", "tests.engines.driver"]


def drive(run: Path, calls: Path, *options: str) -> subprocess.Popen[str]:
    command = [*DRIVER, str(run), str(calls), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for_parts(run: Path, process: subprocess.Popen[str], count: int) -> None:
    """Until so many parts are there (or the driver ended)."""
    while process.poll() is None and len(list(run.glob("analyses/squares/*.parquet"))) < count:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    driver = drive(folder / "run", folder / "calls")
    assert driver.communicate()[0] == '{"receipts": 8}\n'
    return files_of(folder / "run")


def test_local_killed_at_three_random_moments(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    rng = random.Random(2)
    run = tmp_path / "run"
    for _ in range(3):
        driver = drive(run, tmp_path / "calls", "--seconds", "0.1")
        wait_for_parts(run, driver, len(list(run.glob("analyses/squares/*.parquet"))) + 1)
        time.sleep(rng.uniform(0, 0.15))
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
    kept = len(list(run.glob("analyses/squares/*.parquet")))
    assert 3 <= kept < 8
    driver = drive(run, tmp_path / "calls")
    assert driver.communicate()[0] == f'{{"receipts": {8 - kept}}}\n'
    assert files_of(run) == undisturbed


def test_ray_killed_then_completed(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    run = tmp_path / "run"
    driver = drive(run, tmp_path / "calls", "--engine", "ray", "--seconds", "0.5")
    wait_for_parts(run, driver, 3)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    driver = drive(run, tmp_path / "calls")
    receipts = driver.communicate()[0]
    assert 0 < int(receipts.split()[-1].rstrip("}")) <= 5
    assert files_of(run) == undisturbed


def test_a_second_driver_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = drive(run, tmp_path / "calls", "--seconds", "1")
    wait_for_parts(run, first, 1)
    second = drive(run, tmp_path / "other calls")
    answer = second.communicate()[0]
    assert '"error": "ConfigError"' in answer
    assert f"in use by process {first.pid} on" in answer
    assert not (tmp_path / "other calls").exists()
    assert first.communicate()[0] == '{"receipts": 8}\n'
