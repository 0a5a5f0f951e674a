"""The in-process engine, and thereby the meaning of `map`: every chunk once, in order, in this process.

Needs no Ray: a bare GPU machine or a notebook runs the whole paper with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scuba_ray.config import EngineConfig
from scuba_ray.protocols import Chunk, ChunkTask, Receipt
from scuba_ray.tables.worker import run_chunk, set_up


class LocalEngine:
    """Runs chunks one after another. Of its configuration it reads `threads` and `retries`."""

    name = "local"

    def __init__(self, config: EngineConfig) -> None:
        self.config = config

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing was started, so nothing is stopped."""

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

    def check_shared(self, path: str) -> None:
        """There is one node, and it is this one."""
