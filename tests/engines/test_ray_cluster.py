"""Ray itself: an embedded one ends with its engine, a running one is joined, asked what it sees, and left running."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scuba_ray.actors.cluster import check_reach
from scuba_ray.errors import ConfigError

DRIVER = [sys.executable, "-m", "tests.engines.driver"]
HIDDEN = "mount -t tmpfs none {folder} && exec {driver}"
"""A driver with a filesystem of its own at a path the nodes have too: what two machines' local disks look like."""

EMBEDDED = """
import json, os, sys, psutil, ray
from scuba_ray.actors.stage_pool import RayEngine
from scuba_ray.config import EngineConfig
from scuba_ray.errors import ConfigError
from tests.engines.samples import Resources, Squares, cut

engine = RayEngine(EngineConfig())
with engine:
    running = {process.name() for process in psutil.Process().children(recursive=True)}
    store = ray.cluster_resources()["object_store_memory"]
    engine.check_shared("run")
    task = Squares("calls")
    task.resources, task.preparation = Resources(cpus=512), None
    try:
        list(engine.map(task, cut()))
    except ConfigError as error:
        refused = str(error)
left = [process.name() for process in psutil.Process().children(recursive=True)]
again = RayEngine(EngineConfig())
with again:
    again.check_shared("run")
print(json.dumps({
    "running": sorted(running), "store": store, "refused": refused, "initialized": ray.is_initialized(),
    "left": left, "authentication": [name for name in os.environ if name.startswith("RAY_AUTH")],
    "token at home": os.path.exists(os.path.expanduser("~/.ray/auth_token")),
}))
"""


def test_an_embedded_ray_ends_with_its_engine_and_leaves_nothing(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path)}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        home.pop(name, None)
    ended = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True, env=home, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    facts = json.loads(ended.stdout)
    assert {"raylet", "gcs_server"} <= set(facts["running"])
    assert facts["store"] == 512 * 2**20
    assert facts["refused"].startswith("square needs 1 worker of 512 CPUs, 0 GPUs each; the Ray cluster has ")
    assert "which holds 0" in facts["refused"]
    assert not facts["initialized"]
    assert facts["left"] == []
    assert facts["authentication"] == []
    assert not facts["token at home"]
    assert ended.stderr == ""


def without_token() -> dict[str, str]:
    """The environment, without the token of a Ray that this process may have embedded."""
    return {**os.environ, "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes that somebody else started."""
    command = [sys.executable, "-m", "tests.engines.head", "2"]
    head = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=without_token()
    )
    assert head.stdin is not None
    assert head.stdout is not None
    try:
        yield head.stdout.readline().strip()
    finally:
        head.stdin.close()
        head.wait(60)


def answer_of(command: list[str], address: str) -> dict[str, object]:
    command = [*command, "--engine", "ray", "--address", address]
    ended = subprocess.run(command, capture_output=True, text=True, env=without_token(), check=False)
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout)


def test_a_running_cluster_is_joined_and_left_running(address: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert answer_of([*DRIVER, str(tmp_path / name), str(tmp_path / "calls")], address) == {"receipts": 8}


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs the right to make a mount namespace (root)",
)
def test_a_folder_that_the_nodes_do_not_see_is_refused(address: str, tmp_path: Path) -> None:
    driver = " ".join([*DRIVER, str(tmp_path / "run"), str(tmp_path / "calls")])
    script = HIDDEN.format(folder=tmp_path, driver=driver) + ' "$@"'
    answer = answer_of(["unshare", "-m", "sh", "-c", script, "sh"], address)
    assert answer["error"] == "ConfigError"
    assert f"{tmp_path}/run is not seen by every node of the cluster" in str(answer["message"])
    assert "s3://" in str(answer["message"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "cannot join a Ray cluster at 127.0.0.1:1: "),
        ("nonsense", "cannot join a Ray cluster at nonsense: "),
        ("ray://127.0.0.1:10001", "takes host:port of the cluster's head or `auto`, got ray://127.0.0.1:10001"),
    ],
)
def test_a_cluster_out_of_reach_is_a_configuration_error_at_once(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        check_reach(address)
