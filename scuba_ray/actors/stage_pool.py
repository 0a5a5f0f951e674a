"""The engine on Ray Data: a pool of actors per step, each holding the stage's weights, fed one chunk descriptor at a time.

Ray Data brings the pool, its growth, backpressure and the replacement of lost workers; bounded here, where its defaults are
endless. What a worker raises comes back as data, with its kind: a ConfigError on a worker is a ConfigError at the prompt.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.util.annotations import RayDeprecationWarning

from scuba_ray.actors import cluster, shared
from scuba_ray.config import EngineConfig
from scuba_ray.errors import ConfigError, ContractError, DataError, ScubaError, WorkerError
from scuba_ray.protocols import Chunk, ChunkTask, Receipt, Resources
from scuba_ray.tables.worker import RESUMES, run_chunk, set_up

_ANSWER = pa.schema(
    [
        ("index", pa.int64()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("rows", pa.int64()),
        ("bad_rows", pa.int64()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("trace", pa.string()),
    ]
)
_TOLD = ("rows", "bad_rows", "seconds", "bytes", "sha256")
"""What a receipt says of its chunk, in the order of its fields."""
_KINDS: dict[str, type[ScubaError]] = {kind.__name__: kind for kind in (ConfigError, DataError, ContractError, WorkerError)}
_IN_FLIGHT = 2
"""Chunks sent ahead to a worker: Ray Data adds workers only to pools that have some waiting."""


class RayEngine:
    """Spreads chunks over actor pools; `with engine:` connects to Ray once for all steps.

    A worker reserves exactly what its task's `resources` say. Of its configuration the engine reads the address, the pool's
    sizes, `threads` and `retries`; with `initial_workers` unset a pool starts with as many workers as the nodes that are up hold.
    """

    name = "ray"

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._cluster = cluster.Cluster(config.address)

    def __enter__(self) -> RayEngine:
        self._cluster.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._cluster.stop()

    def check_shared(self, path: str) -> None:
        """Raise ConfigError unless every node sees `path` (a probe file written by the driver)."""
        shared.check_shared(path)

    def map(self, task: ChunkTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Run `task` on every chunk; receipts come as chunks finish, in any order.

        Raises
        ------
        ConfigError
            If no node can hold one worker.
        ScubaError
            The task's own; WorkerError for anything unexpected, or when workers are lost more than `retries` times.
        """
        if not chunks:
            return
        pool = self._pool(task.name, task.resources, len(chunks))
        done = 0
        try:
            with _quiet(), contextlib.closing(_answers(self.config, task, chunks, pool)) as answers:
                for answer in answers:
                    yield _receipt(answer)
                    done += 1
        except ScubaError:
            raise
        except Exception as error:
            raise WorkerError(
                f"{task.name}: its workers were lost more often than they are replaced (engine.retries={self.config.retries}): "
                f"{_first_line(error)}. {done} of {len(chunks)} chunks were finished now. {RESUMES}"
            ) from error

    def _pool(self, step: str, resources: Resources, chunks: int) -> ActorPoolStrategy:
        """The pool's sizes: as configured, never more workers than chunks."""
        least, most = min(self.config.min_workers, chunks), min(self.config.max_workers, chunks)
        room = cluster.capacity(resources)
        if not cluster.can_grow() and room < least:
            memory = f", {resources.memory / 2**30:.1f} GiB of memory" if resources.memory else ""
            each = f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs{memory}"
            raise ConfigError(
                f"{step} needs {least} worker{'s' * (least != 1)} of {each} each; the Ray cluster has {cluster.describe()}, "
                f"which holds {room}. Set engine.min_workers, engine.cpus_per_worker "
                "or engine.gpus_per_worker lower, or join a larger cluster with --address"
            )
        first = min(self.config.initial_workers or max(room, least), most)
        return ActorPoolStrategy(
            min_size=least, max_size=most, initial_size=max(first, least), max_tasks_in_flight_per_actor=_IN_FLIGHT
        )


class ChunkWorker:
    """What Ray Data's actors hold: the task, set up with the first chunk so that its errors come back like any other."""

    def __init__(self, task: ChunkTask, threads: int, retries: int) -> None:
        self.task = task
        self.threads = threads
        self.retries = retries
        self._ready = False

    def __call__(self, descriptors: pa.Table) -> pa.Table:
        """Run the chunks described (one, by `batch_size`) and say how each went."""
        return pa.Table.from_pylist([self._run(Chunk(**row)) for row in descriptors.to_pylist()], _ANSWER)

    def _run(self, chunk: Chunk) -> dict[str, Any]:
        answer: dict[str, Any] = {"index": chunk.index, "start": chunk.start, "stop": chunk.stop}
        try:
            if not self._ready:
                set_up(self.task, self.threads)
                self._ready = True
            receipt = run_chunk(self.task, chunk, self.retries)
        except ScubaError as error:
            kind = next(base.__name__ for base in (*type(error).__mro__, WorkerError) if base.__name__ in _KINDS)
            return {**answer, "error": kind, "message": str(error), "trace": traceback.format_exc()}
        return {**answer, **{name: getattr(receipt, name) for name in _TOLD}}


def _answers(
    config: EngineConfig, task: ChunkTask, chunks: Sequence[Chunk], pool: ActorPoolStrategy
) -> Generator[dict[str, Any], None, None]:
    """Run the pool; one answer per chunk, as they come. Closing it ends the pool."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.max_consecutive_actor_init_deaths = config.retries
    reserved: dict[str, Any] = {"num_cpus": task.resources.cpus, "num_gpus": task.resources.gpus}
    if task.resources.memory is not None:
        reserved["memory"] = task.resources.memory
    with DataContext.current(context), warnings.catch_warnings():
        # Bounded retries have no other way in yet; Ray says these two arguments go in 2.64, which pyproject.toml rules out.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_items(
            [{"index": chunk.index, "start": chunk.start, "stop": chunk.stop} for chunk in chunks],
            override_num_blocks=len(chunks),
        ).map_batches(
            ChunkWorker,
            fn_constructor_args=(task, config.threads, config.retries),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            max_restarts=config.retries,
            max_task_retries=config.retries,
            **reserved,
        )
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from batch.to_pylist()


def _receipt(answer: dict[str, Any]) -> Receipt:
    """A worker's answer as a receipt; raises the error it tells of, with the worker's traceback as a note."""
    if answer["error"] is not None:
        error = _KINDS[answer["error"]](answer["message"])
        error.add_note(answer["trace"])
        raise error
    chunk = Chunk(answer["index"], answer["start"], answer["stop"])
    return Receipt(chunk, *(answer[name] for name in _TOLD))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's reports off the terminal (its log file has them); put its handlers back as they were."""
    handlers = [h for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
