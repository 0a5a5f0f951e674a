"""The engine on Ray: a pool of Ray Data actors per step, each holding the stage's weights, fed one chunk descriptor at a time.

Ray Data brings the pool, its growth, backpressure and the replacement of lost workers; bounded here, where its defaults are
endless. What a worker raises comes back as data, with its kind: a ConfigError on a worker is a ConfigError at the prompt.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, ExecutionResources
from ray.util.annotations import RayDeprecationWarning

from scuba_ray.actors import cluster, shared, versions
from scuba_ray.actors.bank_group import BankGroup
from scuba_ray.actors.chunk_workers import CHUNK, ChunkWorker, Preparer, receipt_of
from scuba_ray.actors.losses import NodesLostError, PoolWatch, Watch, on_what_is_left
from scuba_ray.actors.metrics import Metrics
from scuba_ray.actors.room import fits_beside, room_for
from scuba_ray.config import EngineConfig
from scuba_ray.errors import ScubaError, WorkerError
from scuba_ray.protocols import Chunk, ChunkTask, GatherTask, Receipt, Resources
from scuba_ray.tables.worker import RESUMES

_IN_FLIGHT = 2
"""Chunks sent ahead to a worker: Ray Data adds workers only to pools that have some waiting."""
_PREPARED_BYTES = 256 * 2**20
"""What a prepared chunk is taken to need in shared memory, to say how many may wait: 1,024 pictures of 288 x 288. Larger ones
pass as well, fewer at a time."""


class RayEngine:
    """Spreads chunks over actor pools; `with engine:` connects to Ray once for all steps.

    A worker reserves exactly what its task's `resources` say. Of its configuration the engine reads the address, the pool's
    sizes, `threads` and `retries`; with `initial_workers` unset a pool starts with as many workers as the nodes that are up hold.
    With `decoders`, steps that can be prepared have a second pool before the first, which reads and decodes for it.
    """

    name = "ray"

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._cluster = cluster.Cluster(config.address, cluster.OBJECT_STORE_BYTES + (config.decoders and _waiting_bytes(config)))
        self._group: BankGroup | None = None
        """Actors that hold a bank, kept for the next subject unless a pool needs their room."""

    def __enter__(self) -> RayEngine:
        self._cluster.start()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._end_group()
        finally:
            self._cluster.stop()

    def check_versions(self) -> list[str]:
        """Raise ConfigError if a node runs another scuba_ray, Python or Ray; return what else differs, in words."""
        return versions.check_nodes()

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
            The task's own; WorkerError for anything unexpected, or when workers or nodes are lost more than `retries` times.
        """
        if chunks:
            yield from on_what_is_left(task.name, chunks, self.config.retries, partial(self._map, task))

    def _map(self, task: ChunkTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Run `task` on every chunk with one pool."""
        preparers = min(self.config.decoders, len(chunks)) if task.preparation is not None else 0
        pool = self._pool(task, len(chunks), preparers)
        watch = Watch(task.resources, pool.min_size, self.config.grow_minutes, task.preparation, preparers)
        counted = self._metrics.step(task.tags, len(chunks), pictures=task.preparation is not None)
        done = 0
        try:
            with (
                _quiet(),
                contextlib.closing(_answers(self.config, task, chunks, pool, watch)) as answers,
            ):
                for answer in answers:
                    yield counted(receipt_of(answer))
                    done += 1
        except ScubaError:
            raise
        except Exception as error:
            if lost := watch.lost():
                raise NodesLostError(f"nodes were lost ({', '.join(lost)})") from error
            raise WorkerError(
                f"{task.name}: its workers were lost more often than they are replaced (engine.retries={self.config.retries}): "
                f"{cluster.first_line(error)}. {done} of {len(chunks)} chunks were finished now. {RESUMES}"
            ) from error

    def gather(self, task: GatherTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Ask holders of all segments about the chunks, two passes at a time; receipts come in any order, errors as in `map`."""
        if chunks:
            yield from on_what_is_left(task.name, chunks, self.config.retries, partial(self._gather, task))

    def _gather(self, task: GatherTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Ask one group of holders about the chunks."""
        if self._group is not None and self._group.held != task.held:
            self._end_group()
        if self._group is None:
            self._group = BankGroup(self.config, task)
        try:
            counted = self._metrics.step(task.tags, len(chunks))
            for receipt in self._group.gather(task, chunks):
                yield counted(receipt)
        except BaseException:  # whatever ended it, a closed generator too: work that was asked for must not go on
            self._end_group()
            raise

    @cached_property
    def _metrics(self) -> Metrics:
        return Metrics()

    def _end_group(self) -> None:
        if self._group is not None:
            self._group.end()
            self._group = None

    def _pool(self, task: ChunkTask, chunks: int, preparers: int) -> ActorPoolStrategy:
        """The pool's sizes: as configured, never more workers than chunks, and room for those that prepare beside it."""
        least, most = min(self.config.min_workers, chunks), min(self.config.max_workers, chunks)
        resources, beside = task.resources, task.preparation or Resources()
        room = room_for(task.name, least, resources, beside, preparers, minutes=self.config.grow_minutes)
        first = max(min(self.config.initial_workers or room, most), least)
        group = self._group
        if group and (preparers or not fits_beside(resources, first, group.resources, group.size)):
            self._end_group()
        return ActorPoolStrategy(min_size=least, max_size=most, initial_size=first, max_tasks_in_flight_per_actor=_IN_FLIGHT)


def _answers(
    config: EngineConfig, task: ChunkTask, chunks: Sequence[Chunk], pool: ActorPoolStrategy, watch: Watch
) -> Generator[dict[str, Any], None, None]:
    """Run the pool, behind a pool that prepares if there is one; one answer per chunk, as they come. Closing it ends both."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.max_consecutive_actor_init_deaths = config.retries
    context.custom_execution_callback_classes = [partial(PoolWatch, watch)]
    context.target_max_block_size = None  # a prepared chunk is one row of any size: never split it
    if watch.count:
        waiting = _waiting_bytes(config)
        context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=waiting)
    common = {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "max_restarts": config.retries,
        "max_task_retries": config.retries,
    }
    with DataContext.current(context), warnings.catch_warnings():
        # Bounded retries have no other way in yet; Ray says these two arguments go in 2.64, which pyproject.toml rules out.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = ray.data.from_items(
            [{name: getattr(chunk, name) for name in CHUNK} for chunk in chunks], override_num_blocks=len(chunks)
        )
        if watch.count:
            assert task.preparation is not None, "asked of tasks that can be prepared"
            dataset = dataset.map_batches(
                Preparer,
                fn_constructor_args=(task, config.retries, versions.installed()),
                compute=ActorPoolStrategy(size=watch.count, max_tasks_in_flight_per_actor=1),
                **_reserved(task.preparation),
                **common,
            )
        dataset = dataset.map_batches(
            ChunkWorker,
            fn_constructor_args=(task, config.threads, config.retries, versions.installed()),
            compute=pool,
            **_reserved(task.resources),
            **common,
        )
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from batch.to_pylist()


def _waiting_bytes(config: EngineConfig) -> int:
    """Shared memory for prepared chunks: those in work and sent ahead, and one made by every preparer."""
    return _PREPARED_BYTES * (_IN_FLIGHT * config.max_workers + config.decoders)


def _reserved(resources: Resources) -> dict[str, float]:
    reserved = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    return reserved if resources.memory is None else {**reserved, "memory": resources.memory}


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
