"""What all model deployments share, on a model that behaves: sums numbers, is slow or fails when it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from scuba_ray.actors.cluster import Cluster
from scuba_ray.config import ReplicasConfig
from scuba_ray.errors import DataError, WorkerError
from scuba_ray.serve.options import deployment
from scuba_ray.serve.replica import Outcome, Replica, gathered

BATCH = 6
SIZES = ReplicasConfig(batch=BATCH, ongoing=64, wait_seconds=0.05, cpus=0.1)


class Doubles(Replica):
    """Doubles numbers. 13 fails it, 99 is refused as bad data, and while `gate` exists it does not go on."""

    def __init__(self, replicas: ReplicasConfig, gate: Path) -> None:
        super().__init__(replicas, 1, self._gathered)
        self._gate = gate
        self.seen: list[list[int]] = []

    async def double(self, numbers: list[int]) -> list[int]:
        return await self.ask(self._gathered, numbers)

    async def calls_seen(self) -> list[list[int]]:
        seen, self.seen = self.seen, []
        return seen

    @gathered
    async def _gathered(self, calls: list[list[int]]) -> list[Outcome[int]]:
        return await self.compute(self._double, calls)

    def _double(self, numbers: list[int]) -> list[int]:
        self.seen.append(numbers)
        while self._gate.exists():
            time.sleep(0.02)
        if 13 in numbers:
            raise ZeroDivisionError("thirteen")
        if 99 in numbers:
            raise DataError("99 cannot be doubled")
        return [2 * number for number in numbers]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "closed"


@pytest.fixture(scope="module")
def service(gate: Path) -> Iterator[Any]:
    cluster = Cluster(None)
    cluster.start()
    try:
        serve.start(proxy_location="Disabled")
        yield serve.run(deployment(Doubles, SIZES).bind(SIZES, gate), name="doubles", route_prefix=None)
    finally:
        serve.shutdown()
        cluster.stop()


def many(service: Any, calls: list[list[int]]) -> list[Any]:
    """Answers of calls made at once; errors as their causes."""
    responses = [service.double.remote(call) for call in calls]
    found: list[Any] = []
    for response in responses:
        try:
            found.append(response.result(timeout_s=60))
        except Exception as error:
            found.append(error)
    return found


def test_each_call_gets_its_own_answers_of_batches_no_larger_than_set(service: Any) -> None:
    calls = [[1], [2, 3], [], list(range(20, 40)), [4], [5, 6, 7, 8, 9, 10]]
    assert many(service, calls) == [[2 * number for number in call] for call in calls]
    seen = service.calls_seen.remote().result(timeout_s=60)
    assert max(map(len, seen)) <= BATCH
    assert sorted(number for batch in seen for number in batch) == sorted(number for call in calls for number in call)


def test_calls_that_come_while_the_model_computes_share_the_next_batch(service: Any, gate: Path) -> None:
    gate.touch()
    try:
        first = service.double.remote([100])
        deadline = time.monotonic() + 60
        # what the service saw is asked for, not waited for: the event loop answers while the model computes
        while not (seen := service.calls_seen.remote().result(timeout_s=60)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert seen == [[100]]
        service.check_health.remote().result(timeout_s=60)
        later = []
        for number in range(4):
            later.append(service.double.remote([number]))
            time.sleep(3 * SIZES.wait_seconds)
    finally:
        gate.unlink()
    assert first.result(timeout_s=60) == [200]
    assert [response.result(timeout_s=60) for response in later] == [[0], [2], [4], [6]]
    assert sorted(map(len, service.calls_seen.remote().result(timeout_s=60))) == [4], "one batch of four, not four of one"


@pytest.mark.parametrize(("bad", "kind"), [(13, ZeroDivisionError), (99, DataError)])
def test_one_calls_fault_is_its_own(service: Any, gate: Path, bad: int, kind: type[Exception]) -> None:
    gate.touch()
    responses = [service.double.remote([number]) for number in (1, bad, 3)]
    gate.unlink()
    assert responses[0].result(timeout_s=60) == [2] and responses[2].result(timeout_s=60) == [6]
    with pytest.raises(kind):
        responses[1].result(timeout_s=60)
    service.check_health.remote().result(timeout_s=60)


def test_a_replica_that_only_fails_says_so_until_it_succeeds_and_bad_data_is_no_failure(tmp_path: Path) -> None:
    replica = Doubles(SIZES, tmp_path / "open")

    def compute(number: int) -> None:
        asyncio.run(replica.compute(replica._double, [[number]]))

    for number in (13, 13, 99, 99):
        compute(number)
    asyncio.run(replica.check_health())
    compute(13)
    with pytest.raises(WorkerError, match=r"Doubles: 3 computations failed in a row.*thirteen"):
        asyncio.run(replica.check_health())
    compute(1)
    asyncio.run(replica.check_health())
