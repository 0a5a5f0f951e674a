"""`scuba serve` as a process: what it refuses before anything starts, where it says it serves, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scuba_ray.config import RunConfig, serve_config
from scuba_ray.serve.service import reserved
from scuba_ray.tables.store import RunFolder
from tests.serve.serving import END_SECONDS, SMALL, START_SECONDS, Client, Process, environment, wait_for

Finished = tuple[RunFolder, RunConfig]


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


def refusal(*arguments: str, errors: Path) -> str:
    """What `scuba serve` says when it ends with a configuration error, and has started nothing."""
    process = Process(*arguments, errors=errors)
    try:
        assert process.process.wait(START_SECONDS) == 2, process.said()
    finally:
        process.end()
    assert "Ray is started" not in process.said()
    return process.said()


def test_a_port_in_use_is_told_before_anything_starts(finished: Finished, errors: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(finished[0].location, f"--port={port}", errors=errors)
    assert f"cannot listen at 127.0.0.1:{port}" in said
    assert "--port" in said


def test_an_open_door_without_a_token_is_told_loudly(finished: Finished, errors: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        said = refusal(finished[0].location, "--host=0.0.0.0", f"--port={taken.getsockname()[1]}", errors=errors)
    assert "ANYBODY who reaches 0.0.0.0" in said
    assert "SCUBA_SERVE_TOKEN" in said


def test_wrong_settings_and_runs_are_told(finished: Finished, tmp_path: Path, errors: Path) -> None:
    assert "limits.items must be >= 1, got 0" in refusal(finished[0].location, "--set=limits.items=0", errors=errors)
    assert "holds no run" in refusal(str(tmp_path), errors=errors)
    assert "--prefix must begin with /" in refusal(str(tmp_path), "--prefix=x", errors=errors)


def test_what_is_reserved_counts_the_banks_holders() -> None:
    part = {"cpus": 1, "gpus": 1}
    args = {"run": "x", "projector": {**part, "min_replicas": 2, "max_replicas": 2}, "holders": 3}
    rest = {name: {"cpus": 0} for name in ("ingress", "subjects", "encoder", "captioner", "nearest")}
    needed = reserved(serve_config({**args, **rest}))
    assert (needed.cpus, needed.gpus) == (8, 6), "a projector computes nothing: its holders have the GPUs"


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Somebody else's cluster with an application on Serve: its process, address and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serve.other_app", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(RAY_AUTH_MODE="disabled"),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip(), port
    finally:
        process.stdin.close()
        process.wait(END_SECONDS)


@pytest.mark.slow
def test_on_a_cluster_of_somebody_else_only_the_own_application_ends(
    finished: Finished, other: tuple[subprocess.Popen[str], str, int], errors: Path
) -> None:
    cluster, address, port = other
    places = [f"--address={address}", "--name=mine", "--prefix=/mine"]
    process = Process(finished[0].location, *places, *SMALL, errors=errors, RAY_AUTH_MODE="disabled")
    try:
        url = process.url()
        assert url == f"http://127.0.0.1:{port}/mine/"
        assert f"Serve runs on this cluster already and listens at 127.0.0.1:{port}" in process.said()
        assert Client(url).get("healthz").json["healthy"]
        assert len(Client(url).post("v1/caption", {"voxels": [100]}).rows) == 1
        assert process.stop(signal.SIGINT) == 130
    finally:
        process.end()
    assert process.said().rstrip().endswith("stopped")
    assert Client(f"http://127.0.0.1:{port}/").get("other").body == b"other"
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    cluster.stdin.write("\n")
    cluster.stdin.flush()
    assert json.loads(cluster.stdout.readline()) == ["other"]


def test_an_own_ray_ends_with_the_service_even_while_it_starts(finished: Finished, errors: Path) -> None:
    process = Process(finished[0].location, "--port=0", *SMALL, errors=errors)
    try:
        wait_for(lambda: "Ray is started" in process.said(), START_SECONDS)
        children = psutil.Process(process.process.pid).children(recursive=True)
        assert {"raylet", "gcs_server"} <= {one.name() for one in children}
        assert process.stop() == 0, process.said()
        _, alive = psutil.wait_procs(children, END_SECONDS)
        assert alive == []
    finally:
        process.end()
