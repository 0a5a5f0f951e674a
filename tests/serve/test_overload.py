"""By Ray's own `serve run` and deploy/serve/config.yaml: requests beyond what queues hold are refused with 503 and Retry-After;
those let in are answered, and so is everybody later. Without the token nobody is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from scuba_ray.config import RunConfig
from scuba_ray.tables.store import RunFolder
from tests.serve.replicas import Known, known, replicas
from tests.serve.serving import END_SECONDS, ROOT, START_SECONDS, Answer, Client, environment, wait_for

ONGOING, QUEUED = 2, 2
"""Of the captioner."""
LET_IN, WAITING = 12, 12
"""Of the ingress: what it takes on, and what waits in Serve's proxy before it."""
STOPPED_SECONDS = 60
"""Less than a replica's health check needs to replace it: three failures, each of 30 s."""
TOKEN = {"Authorization": "Bearer correct-horse"}
SMALL = {"cpus": 0.05}


def config(run: RunFolder, port: int) -> dict[str, Any]:
    """The shipped file for a small run on this machine: no GPUs, few requests let in."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "serve" / "config.yaml").read_text())
    made["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = made["applications"]
    args = application["args"]
    for name in ("encoder", "projector", "captioner", "nearest"):
        args[name].pop("gpus")
        args[name] |= SMALL
    args |= {"run": run.location, "device": "cpu", "subjects": SMALL}
    args["ingress"] = {**SMALL, "ongoing": LET_IN, "queued": WAITING}
    args["captioner"] |= {"batch": ONGOING // 2, "ongoing": ONGOING, "queued": QUEUED}
    return made


def healthy(client: Client) -> bool:
    try:
        return client.get("healthz").status == 200
    except OSError:
        return False


@dataclass(frozen=True)
class Asking:
    """Requests sent at once."""

    client: Client
    right: Known

    def __call__(self, first: int, count: int = 1) -> Answer:
        return self.client.post("v1/caption", self.right.body(first, count), **TOKEN)

    def many(self, count: int, pool: ThreadPoolExecutor) -> list[Future[Answer]]:
        return [pool.submit(self, first) for first in range(count)]

    def check(self, answers: list[Answer], refused: int) -> list[Answer]:
        """All are right or refused with a time to wait, so many at least; returns those refused."""
        busy = [answer for answer in answers if answer.status == 503]
        assert len(busy) >= refused
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in busy)
        served = [(first, answer) for first, answer in enumerate(answers) if answer.status == 200]
        assert len(served) + len(busy) == len(answers) and served
        assert all(self.right.is_right(answer.rows, first) for first, answer in served)
        for first in range(3):
            assert self.right.is_right(self(first, 2).rows, first)
        assert self.client.get("healthz").status == 200
        return busy


@pytest.fixture(scope="module")
def asking(finished: tuple[RunFolder, RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("deployed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config.yaml").write_text(yaml.safe_dump(config(finished[0], port)))
    variables = environment(
        RAY_ADDRESS="local",
        RAY_AUTH_MODE="disabled",
        SCUBA_SERVE_TOKEN="correct-horse",
        RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S="60",  # as `scuba serve` sets it
    )
    client = Client(f"http://127.0.0.1:{port}/")
    with (folder / "said").open("wb") as said:
        command = [str(Path(sys.executable).with_name("serve")), "run", str(folder / "config.yaml")]
        process = subprocess.Popen(command, stdout=said, stderr=said, env=variables, cwd=ROOT)
    try:
        wait_for(lambda: healthy(client) or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, (folder / "said").read_text(errors="replace")
        yield Asking(client, known(finished[0], "subj01/tiny"))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stopped(name: str) -> int:
    """Stop a replica, shorter than its health check is waited for; returns its process."""
    (replica,) = replicas(name)
    os.kill(replica.pid, signal.SIGSTOP)
    return replica.pid


def test_the_token_of_the_nodes_is_asked_for(asking: Asking) -> None:
    answer = asking.client.get("v1/runs")
    assert answer.status == 401 and answer.json["request_id"]
    assert asking.client.get("v1/runs", **TOKEN).json["runs"][0]["name"] == "tiny"


def test_full_queues_refuse_in_words_and_recover(asking: Asking) -> None:
    assert asking.right.is_right(asking(0, 3).rows, 0)
    captioner = stopped("Captioner")
    try:
        with ThreadPoolExecutor(LET_IN) as pool:
            coming = asking.many(LET_IN, pool)
            refused = LET_IN - ONGOING - QUEUED
            end = time.monotonic() + STOPPED_SECONDS
            while sum(one.done() for one in coming) < refused and time.monotonic() < end:
                time.sleep(0.1)
            at_once = sum(one.done() for one in coming)
            os.kill(captioner, signal.SIGCONT)
            answers = [one.result() for one in coming]
    finally:
        os.kill(captioner, signal.SIGCONT)
    assert at_once >= refused, [answer.status for answer in answers]
    for answer in asking.check(answers, refused):
        assert "busy" in answer.json["error"] and answer.json["request_id"]
