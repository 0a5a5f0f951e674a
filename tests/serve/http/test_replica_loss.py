"""A captioner's replica is killed while requests go on: no wrong answer, and the service recovers by itself."""

from __future__ import annotations

import os
import signal
import threading
import time

from tests.serve.replicas import known, replicas
from tests.serve.serving import Answer, Served, wait_for

CLIENTS, COUNT = 6, 3
RECOVERY_SECONDS = 240.0


def test_a_killed_replica_is_replaced_and_no_answer_is_wrong(served: Served) -> None:
    right = known(served.run, "subj01/tiny")
    answers: list[tuple[int, float, Answer]] = []
    stop = threading.Event()

    def ask(client: int) -> None:
        first = client
        while not stop.is_set():
            answer = served.client.post("v1/caption", right.body(first, COUNT))
            answers.append((first, time.monotonic(), answer))
            first += COUNT

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for one in clients:
        one.start()
    try:
        wait_for(lambda: len(answers) >= 2 * CLIENTS, RECOVERY_SECONDS)
        before = {process.pid for process in replicas("Captioner")}
        assert len(before) == 1
        os.kill(before.pop(), signal.SIGKILL)
        killed = time.monotonic()
        after = [0.0]

        def recovered() -> bool:
            """A few answers in a row, asked for after the kill."""
            after[0] = time.monotonic()
            late = [answer.status for _, when, answer in answers[-2 * CLIENTS :] if when > killed + 1]
            return len(late) == 2 * CLIENTS and set(late) == {200}

        wait_for(recovered, RECOVERY_SECONDS)
    finally:
        stop.set()
        for one in clients:
            one.join()
    statuses = [answer.status for _, _, answer in answers]
    print(f"recovered in {after[0] - killed:.1f} s; {len(statuses)} answers, failed: {[s for s in statuses if s != 200]}")
    for first, _, answer in answers:
        if answer.status == 200:
            assert right.is_right(answer.rows, first), (first, answer.rows)
        else:
            assert answer.status in {503, 504}, answer.body
            assert answer.json["error"] and "Traceback" not in answer.json["error"]
    assert served.client.get("healthz").status == 200
