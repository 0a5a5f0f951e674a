"""One driver at a time, and a killed one leaves no lock behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.tables import files, lock
from scuba_ray.tables.store import RunFolder

HOLDER = """
import sys, time
from scuba_ray.tables.store import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def store() -> str:
    return f"fsspec+memory://bucket/{uuid.uuid4().hex}"


def test_a_second_driver_is_refused_until_the_first_ends_even_by_sigkill(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid} on .*choose another"), RunFolder(folder).lock():
            pass
    finally:
        holder.kill()
        holder.wait()
    with RunFolder(folder).lock():
        pass


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "run"))
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with run.lock(), pytest.raises(ConfigError, match="in use by process"), run.lock():
        pass


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write to the folder"), RunFolder(str(tmp_path / "file" / "run")).lock():
        pass


def test_a_lease_is_held_renewed_and_given_back(store: str) -> None:
    with lock.hold(store, lease=0.4, settle=0.05):
        first = json.loads(files.read(store, lock.NAME))
        time.sleep(0.8)
        assert json.loads(files.read(store, lock.NAME))["expires"] > first["expires"]
        with (
            pytest.raises(ConfigError, match=r"in use by process .* its lease ends in"),
            lock.hold(store, lease=0.4, settle=0.05),
        ):
            pass
    with lock.hold(store, lease=0.4, settle=0.05):
        pass


def test_a_lease_of_a_killed_driver_ends_by_itself(store: str) -> None:
    files.write(store, lock.NAME, json.dumps({"owner": "dead", "host": "h", "pid": 1, "expires": time.time() + 0.3}).encode())
    with pytest.raises(ConfigError, match="in use by process 1 on h"), lock.hold(store, lease=0.4, settle=0.05):
        pass
    time.sleep(0.4)
    with lock.hold(store, lease=0.4, settle=0.05):
        pass


def test_of_two_that_write_at_once_one_gives_way(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"owner": "other", "host": "h", "pid": 1, "expires": time.time() + 60}
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: files.write(store, lock.NAME, json.dumps(other).encode()))
    with pytest.raises(ConfigError, match="in use by process 1"), lock.hold(store):
        pass
    assert json.loads(files.read(store, lock.NAME)) == other


def test_a_lost_lease_is_told(store: str) -> None:
    thief = {"owner": "thief", "host": "h", "pid": 1, "expires": time.time() + 60}
    with pytest.raises(WorkerError, match=r"the lease on .* was lost"), lock.hold(store, lease=0.2, settle=0.05):
        files.write(store, lock.NAME, json.dumps(thief).encode())
        time.sleep(0.3)
    assert json.loads(files.read(store, lock.NAME)) == thief
