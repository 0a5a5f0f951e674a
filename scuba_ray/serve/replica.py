"""What the replicas of all models share: one thread that computes, and the items of concurrent calls brought together for it.

The event loop stays free: health checks and further calls are heard while a model computes. Calls carry lists of items; a model
sees the items of several calls as one list, and each call gets its own answers back. If such a list fails, each call is computed
alone, so that nobody pays for what another one sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from ray import serve

from scuba_ray.config.serve import ReplicasConfig
from scuba_ray.errors import ConfigError, DataError, WorkerError
from scuba_ray.tables.worker import set_threads

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Outcome = list[Answer] | Exception
"""Of one call: an answer for each of its items, or what is raised to its caller."""
Gathered = Callable[[Any, list[list[Item]]], Awaitable[list[Outcome[Answer]]]]

_FAILURES = 3
"""So many unexpected failures in a row, and the replica is taken for broken (a GPU in a bad state, lost holders of a bank)."""


def gathered(method: Gathered[Item, Answer]) -> Callable[[Any, list[Item]], Awaitable[Outcome[Answer]]]:
    """Let Serve gather calls of a method that takes lists of items, up to a number of items (`Replica.ask` calls it)."""
    batched: Callable[[Any, list[Item]], Awaitable[Outcome[Answer]]] = serve.batch(batch_size_fn=_items)(method)
    return batched


def _items(calls: list[list[Any]]) -> int:
    return sum(map(len, calls))


class Replica:
    """Base of the model deployments: subclasses load in their constructor and write `gathered` methods around `compute`."""

    on_device: ClassVar[bool] = True
    """Whether the replica itself computes on the device; if not, actors of its own do."""

    def __init__(self, replicas: ReplicasConfig, threads: int, *methods: Any) -> None:
        """Take sizes and waits of the `gathered` `methods` from the settings; `threads` is the mathematics' number of threads."""
        self._ends = contextlib.ExitStack()
        """What is closed with the replica; subclasses add theirs."""
        self._most = replicas.batch
        for method in methods:
            method.set_max_batch_size(replicas.batch)
            method.set_batch_wait_timeout_s(replicas.wait_seconds)
        set_threads(threads)
        self._model = ThreadPoolExecutor(1, thread_name_prefix="model", initializer=set_threads, initargs=(threads,))
        self._ends.callback(self._model.shutdown, wait=False, cancel_futures=True)
        self._idle = asyncio.Event()
        self._idle.set()
        self._failures = 0
        self._last = ""

    async def check_health(self) -> None:
        """Raise WorkerError if the last computations all failed, and not by what was asked: Serve then replaces the replica."""
        if self._failures >= _FAILURES:
            raise WorkerError(f"{type(self).__name__}: {self._failures} computations failed in a row; the last one: {self._last}")

    async def ask(self, method: Callable[[list[Item]], Awaitable[Outcome[Answer]]], items: Sequence[Item]) -> list[Answer]:
        """Answers to a call's items, computed with those of other calls; a call of more than a batch is cut.

        Calls wait here while the model computes: Serve would close batches after the same short wait then too, and of the many
        calls that come in that time make as many small batches.
        """
        await self._idle.wait()
        pieces = [list(items[start : start + self._most]) for start in range(0, len(items), self._most)]
        found = await asyncio.gather(*map(method, pieces))
        answers: list[Answer] = []
        for outcome in found:
            if isinstance(outcome, Exception):
                raise outcome
            answers += outcome
        return answers

    async def compute(self, model: Callable[[list[Item]], Sequence[Answer]], calls: list[list[Item]]) -> list[Outcome[Answer]]:
        """Compute in the model's thread; what `gathered` methods return."""
        self._idle.clear()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._model, self._outcomes, model, calls)
        finally:
            self._idle.set()

    def _outcomes(self, model: Callable[[list[Item]], Sequence[Answer]], calls: list[list[Item]]) -> list[Outcome[Answer]]:
        try:
            answers = list(model([item for call in calls for item in call]))
        except Exception as error:
            if len(calls) > 1:
                return [outcome for call in calls for outcome in self._outcomes(model, [call])]
            if not isinstance(error, ConfigError | DataError):
                self._failures, self._last = self._failures + 1, f"{type(error).__name__}: {error}"
            return [error]
        self._failures = 0
        outcomes: list[Outcome[Answer]] = []
        for call in calls:
            outcomes.append(answers[: len(call)])
            del answers[: len(call)]
        return outcomes

    def __del__(self) -> None:
        """Serve calls this when a replica is taken down."""
        self._ends.close()
