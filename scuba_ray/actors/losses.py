"""Nodes that go while a step works. Ray puts their workers on the nodes that stay, or on ones that an autoscaler brings.

Where a worker finds no room any more, Ray would wait for ever, and with it the chunks it had, though other workers stand idle.
So whoever waits for a pool asks a `Watch` now and then; it ends the pool after a limited time, and the chunks that are not
finished go to a new one made for what is left. Results do not depend on it: parts are the same whoever writes them.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from scuba_ray.actors import growth
from scuba_ray.actors.room import NoRoomError, capacity
from scuba_ray.errors import WorkerError
from scuba_ray.protocols import Chunk, Receipt, Resources
from scuba_ray.tables.worker import RESUMES

_POLL_SECONDS = 2.0
_REPLACED_SECONDS = 30.0
"""How long a lost node may take to come back where no autoscaler would bring another."""
_LAUNCHED_SECONDS = 90.0
"""How long an autoscaler may take to launch another; it waits half a minute for a sign of life first."""
_KNOWN_SECONDS = 60.0
"""How long the head may take to notice that a node is gone."""

_log = logging.getLogger(__name__)


class NodesLostError(WorkerError):
    """A pool has lost workers with their nodes, and cannot go on as it is."""


def _nodes_up() -> dict[str, tuple[str, int]]:
    up = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in up}


@dataclass
class Watch:
    """Whether the workers of a pool still have room, all of this size and at least `least` of them, with `count` others beside.

    Nodes that come in place of lost ones may take `minutes`, as long as there is an autoscaler that is launching any.
    """

    resources: Resources
    least: int
    minutes: float
    beside: Resources | None = None
    count: int = 0
    _nodes: dict[str, tuple[str, int]] = field(default_factory=_nodes_up, init=False)
    """Nodes that were up when this began, and where they are reached."""
    _asked: float = field(default=0.0, init=False)
    _short: float | None = field(default=None, init=False)
    """Since when there is too little room."""
    _launching: float = field(default=0.0, init=False)
    """When nodes were last seen to be on their way."""

    def check(self, workers: int) -> None:
        """Look at the nodes, every few seconds at most; `workers` are those that have begun and are not ended.

        Raises
        ------
        NodesLostError
            If they have had no room for too long.
        """
        now = time.monotonic()
        if now - self._asked < _POLL_SECONDS:
            return
        self._asked = now
        room = capacity(self.resources, self.beside, self.count)
        if room >= max(workers, self.least):
            self._short = None
            return
        if self._short is None:
            self._short = now
        grows = growth.can_grow()
        if grows and growth.is_launching():
            self._launching = now
        quiet = now - max(self._short, self._launching)
        if quiet >= (_LAUNCHED_SECONDS if grows else _REPLACED_SECONDS) or now - self._short >= self.minutes * 60:
            raise NodesLostError(f"nodes were lost: what is left holds {max(room, 0)} of {max(workers, self.least)} workers")

    def lost(self) -> list[str]:
        """Addresses of the nodes that are gone since this began, once the whole cluster knows; asked after a failure.

        Ray learns of it within half a minute, and meanwhile takes their workers for slow ones and counts retries in vain.
        """
        gone = {name for name, place in self._nodes.items() if not _answers(place)}
        deadline = time.monotonic() + _KNOWN_SECONDS
        while gone & _nodes_up().keys() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 4)
        return sorted(f"{host}:{port}" for host, port in (self._nodes[name] for name in gone))


class PoolWatch(ExecutionCallback):  # type: ignore[misc]  # Ray Data is not typed
    """Asks a watch at every step of Ray Data's loop; what it raises ends the pool."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """Called by Ray Data; the last operator is the pool, one before it may prepare."""
        pool = [*executor._topology][-1].get_actor_info()
        self._watch.check(pool.running + pool.restarting)


def on_what_is_left(
    step: str, chunks: Sequence[Chunk], retries: int, work: Callable[[Sequence[Chunk]], Iterator[Receipt]]
) -> Iterator[Receipt]:
    """Have `work` done on the chunks, and again, at most `retries` times, on those left when nodes are lost.

    Raises
    ------
    WorkerError
        If nodes are lost more often, or what is left of the cluster holds too few workers.
    """
    left = {chunk.index: chunk for chunk in chunks}
    for again in range(retries + 1):
        try:
            for receipt in work(list(left.values())):
                del left[receipt.chunk.index]
                yield receipt
            return
        except NodesLostError as lost:
            if again == retries:
                raise WorkerError(f"{step}: {lost}. {_state(chunks, left)}") from lost
            _log.warning("%s: %s; %d of %d chunks go to new workers", step, lost, len(left), len(chunks))
        except NoRoomError as error:
            if not again:
                raise
            raise WorkerError(f"{step}: nodes were lost. {error}. {_state(chunks, left)}") from error


def _state(chunks: Sequence[Chunk], left: dict[int, Chunk]) -> str:
    return f"{len(chunks) - len(left)} of {len(chunks)} chunks were finished now. {RESUMES}"


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=_POLL_SECONDS).close()
    except OSError:
        return False
    return True
