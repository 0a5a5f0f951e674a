"""Requests beyond what queues hold are refused with 503 and Retry-After; those let in are answered, and so is everybody later."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scuba_ray.config import RunConfig
from scuba_ray.tables.store import RunFolder
from tests.serve.replicas import known, replicas
from tests.serve.serving import SMALL, Client, Process, wait_for

ONGOING, QUEUED, ASKED = 2, 2, 12
TIGHT = [f"--set=captioner.batch={ONGOING // 2}", f"--set=captioner.ongoing={ONGOING}", f"--set=captioner.queued={QUEUED}"]


@pytest.fixture(scope="module")
def client(finished: tuple[RunFolder, RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service whose captioner lets few requests in."""
    errors = tmp_path_factory.mktemp("tight") / "stderr"
    process = Process(finished[0].location, "--port=0", *SMALL, *TIGHT, errors=errors)
    try:
        yield Client(process.url())
        assert process.stop() == 0, process.said()
    finally:
        process.end()


def test_full_queues_refuse_in_words_and_recover(finished: tuple[RunFolder, RunConfig], client: Client) -> None:
    right = known(finished[0], "subj01/tiny")
    assert right.is_right(client.post("v1/caption", right.body(0, 3)).rows, 0)
    (captioner,) = replicas("Captioner")
    os.kill(captioner.pid, signal.SIGSTOP)  # shorter than its health check is waited for
    try:
        with ThreadPoolExecutor(ASKED) as pool:
            coming = [pool.submit(client.post, "v1/caption", right.body(first, 1)) for first in range(ASKED)]
            refused = ASKED - ONGOING - QUEUED
            wait_for(lambda: sum(one.done() for one in coming) >= refused, 25)
            os.kill(captioner.pid, signal.SIGCONT)
            answers = [one.result() for one in coming]
    finally:
        os.kill(captioner.pid, signal.SIGCONT)
    busy = [answer for answer in answers if answer.status == 503]
    assert len(busy) >= refused
    for answer in busy:
        assert int(answer.headers["Retry-After"]) >= 1
        assert "busy" in answer.json["error"] and answer.json["request_id"]
    served = [(first, answer) for first, answer in enumerate(answers) if answer.status == 200]
    assert len(served) + len(busy) == ASKED and served
    assert all(right.is_right(answer.rows, first) for first, answer in served)
    for first in range(3):
        assert right.is_right(client.post("v1/caption", right.body(first, 2)).rows, first)
    assert client.get("healthz").status == 200
