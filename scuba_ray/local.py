"""The in-process engine, and thereby the meaning of `map` and `gather`: every chunk once, in order, in this process.

Needs no Ray: a bare GPU machine or a notebook runs the whole paper with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from scuba_ray.config import EngineConfig
from scuba_ray.core.tree import Forest
from scuba_ray.protocols import Chunk, ChunkTask, GatherTask, Holding, Node, Receipt
from scuba_ray.tables.gathering import passes
from scuba_ray.tables.worker import attempt, run_chunk, set_threads, set_up

Value = TypeVar("Value")


class LocalEngine:
    """Runs chunks one after another. Of its configuration it reads `threads` and `retries`."""

    name = "local"

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._holding: tuple[str, Holding] | None = None
        """What is held for gathering, after its name: another subject asks it too."""

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing was started, so nothing is stopped; what was held is let go."""
        self._holding = None

    def map(self, task: ChunkTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Run `task` on every chunk, in order; receipts come as chunks finish.

        Raises
        ------
        ScubaError
            The task's own; WorkerError for anything unexpected, naming step and chunk.
        """
        if not chunks:
            return
        set_up(task, self.config.threads)
        for chunk in chunks:
            yield run_chunk(task, chunk, self.config.retries)

    def gather(self, task: GatherTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Hold all segments in this process, ask about `together` chunks at a time and write their parts; errors as in `map`."""
        if not chunks:
            return
        set_threads(self.config.threads)
        holding = self._held(task)
        for group in passes(task, chunks):
            asked = [(chunk, self._try(partial(task.question, chunk), task, chunk)) for chunk in group]
            answers = self._try(partial(holding.answer, [question for _, question in asked]), task, group[0])
            for (chunk, question), nodes in zip(asked, answers, strict=True):
                yield self._try(partial(_write, task, chunk, question, nodes), task, chunk)

    def _held(self, task: GatherTask) -> Holding:
        """All segments, in memory or not as the task has it; kept until a task asks for others."""
        if self._holding is None or self._holding[0] != task.held:
            self._holding = None
            self._holding = (task.held, self._try(partial(task.hold, 0, task.segments), task, None))
        return self._holding[1]

    def _try(self, call: Callable[[], Value], task: GatherTask, chunk: Chunk | None) -> Value:
        return attempt(call, step=task.name, chunk=chunk, retries=self.config.retries)

    def check_versions(self) -> list[str]:
        """There is one process, and it is this one."""
        return []

    def check_shared(self, path: str) -> None:
        """There is one node, and it is this one."""


def _write(task: GatherTask, chunk: Chunk, question: Any, nodes: Mapping[Node, Any]) -> Receipt:
    """Merge a chunk's answers to the root and write its part."""
    forest = Forest(task.merge)
    for node, answer in nodes.items():
        forest.add(node, answer)
    return task.write(chunk, question, forest.fold())
