"""Actors that hold all of a bank between them, each a run of its segments, and answer together.

The driver puts a question once and only ever holds references: answers merge pairwise on the actors along the fixed tree
(`core/tree.py`), and the actor that merges last writes the part. Actors do as they are told in any order (what a merge waits for
may be on another actor, or on one that is just being replaced), so none is kept from working by its neighbours. A lost actor is
replaced by Ray, reloads its segments and does again what it had not finished; answers of its that are lost with its node are
made again when they are needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from scuba_ray import logs
from scuba_ray.actors import cluster
from scuba_ray.actors.losses import NodesLostError, Watch
from scuba_ray.actors.room import room_for
from scuba_ray.actors.versions import Versions, check_this_process, installed
from scuba_ray.config import EngineConfig
from scuba_ray.core.tree import Forest, Node, decompose, runs
from scuba_ray.errors import ScubaError, WorkerError
from scuba_ray.protocols import Chunk, GatherStage, GatherTask, Receipt, StageOutput
from scuba_ray.tables.gathering import passes
from scuba_ray.tables.worker import RESUMES, attempt, set_threads

_IN_FLIGHT = 2
"""Passes asked for at a time: while the answers of one are merged and written, the bank is read for the next."""
_NOTES_SECONDS = 5.0
"""How long actors may take to hand over what they have to log; one that is being replaced takes longer."""
_LOOK_SECONDS = 1.0
"""How long to wait for a receipt before looking whether the nodes are still there."""
Place = tuple[Any, Any]
"""Reference to an answer, and the actor that has it."""


class BankGroup:
    """Holders of everything that a task's `held` names, as many as `max_workers`, segments and cluster allow.

    A run has parts written (`gather`, of tasks); a service asks for rows (`answer`, of the stage itself).
    """

    def __init__(self, config: EngineConfig, task: GatherTask | GatherStage) -> None:
        """Start the actors; they load while the driver goes on.

        Raises
        ------
        ConfigError
            If the cluster has no room for `min_workers`.
        """
        self.held = task.held
        self.resources = task.resources
        self._retries = config.retries
        self._minutes = config.grow_minutes
        self._least = least = min(config.min_workers, task.segments)
        room = room_for(task.name, least, task.resources, minutes=config.grow_minutes)
        self._runs = runs(task.segments, min(config.max_workers, task.segments, room))
        reserved: dict[str, Any] = {"num_cpus": task.resources.cpus, "num_gpus": task.resources.gpus}
        if task.resources.memory is not None:
            reserved["memory"] = task.resources.memory
        holder = ray.remote(Holder).options(
            max_restarts=config.retries,
            max_task_retries=config.retries,
            scheduling_strategy="SPREAD",
            allow_out_of_order_execution=True,
            **reserved,
        )
        self._actors = [holder.remote(task, run, config.threads, config.retries, installed()) for run in self._runs]

    @property
    def size(self) -> int:
        """How many actors there are."""
        return len(self._actors)

    def end(self) -> None:
        """Kill the actors, whatever they are doing."""
        for actor in self._actors:
            ray.kill(actor)

    def gather(self, task: GatherTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Ask about all chunks, at most two passes ahead; receipts come as parts are written.

        Raises
        ------
        ScubaError
            The task's own; WorkerError for anything unexpected, or when actors are lost more than `retries` times. Some of the
            work asked for may still go on: end the group.
        """
        done = 0
        watch = Watch(self.resources, self._least, self._minutes)
        try:
            for receipt in self._gather(task, chunks, watch):
                yield receipt
                done += 1
            self._tell()
        except RayError as error:
            self._tell()
            cause = error.cause if isinstance(error, RayTaskError) else error
            if isinstance(cause, ScubaError):
                cause.add_note(str(error))
                raise cause from None
            if lost := watch.lost():
                raise NodesLostError(f"nodes were lost ({', '.join(lost)})") from error
            # a merge or a write whose argument went with a lost actor fails too, because of that one
            if isinstance(cause, RayError):
                raise WorkerError(
                    f"{task.name}: its workers were lost more often than they are replaced (engine.retries={self._retries}): "
                    f"{cluster.first_line(cause)}. {done} of {len(chunks)} chunks were finished now. {RESUMES}"
                ) from error
            raise WorkerError(f"{task.name} failed: {error}. {RESUMES}") from error

    def answer(self, stage: GatherStage, rows: pa.Table) -> StageOutput:
        """What `stage` makes of some rows, computed and finished on the actors; nothing is written.

        Raises
        ------
        ScubaError
            The stage's own; WorkerError for anything unexpected, or when actors are lost more than `retries` times.
        """
        shared, chunk = ray.put(stage), Chunk(0, 0, rows.num_rows)
        question = ray.put(attempt(partial(stage.question, rows), step=stage.name, chunk=chunk, retries=self._retries))
        answer, actor = self._merged(shared, [chunk], [question])[0]
        try:
            output: StageOutput = ray.get(actor.finish.remote(shared, chunk, question, answer))
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            if isinstance(cause, ScubaError):
                raise cause from None
            raise WorkerError(
                f"{stage.name}: its workers failed, or were lost more often than they are replaced: {cluster.first_line(cause)}"
            ) from error
        return output

    def _tell(self) -> None:
        """Log what the actors had to say; a lost one has taken it along."""
        asked = [actor.notes.remote() for actor in self._actors]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_NOTES_SECONDS)
        for notes in answered:
            with contextlib.suppress(RayError):
                logs.tell_again(ray.get(notes))

    def _gather(self, task: GatherTask, chunks: Sequence[Chunk], watch: Watch) -> Iterator[Receipt]:
        shared = ray.put(task)
        coming = enumerate(passes(task, chunks))
        pending: dict[Any, int] = {}
        for number, group in coming:
            pending |= dict.fromkeys(self._ask(task, shared, group), number)
            while len(set(pending.values())) >= _IN_FLIGHT:
                yield _next(pending, watch, self.size)
        while pending:
            yield _next(pending, watch, self.size)

    def _ask(self, task: GatherTask, shared: Any, group: Sequence[Chunk]) -> list[Any]:
        """Send one pass on its way, to the last merge and the written part; returns the references of its receipts."""
        questions = [
            ray.put(attempt(partial(task.question, chunk), step=task.name, chunk=chunk, retries=self._retries)) for chunk in group
        ]
        receipts = []
        for chunk, question, (answer, actor) in zip(group, questions, self._merged(shared, group, questions), strict=True):
            receipts.append(actor.write.remote(shared, chunk, question, answer))
        return receipts

    def _merged(self, shared: Any, group: Sequence[Chunk], questions: Sequence[Any]) -> list[Place]:
        """Put questions to all actors; returns where each one's answer of all segments comes to lie."""
        forests = [Forest(partial(_merge, shared, chunk)) for chunk in group]
        for actor, run in zip(self._actors, self._runs, strict=True):
            nodes = decompose(*run)
            asked = actor.answer.options(num_returns=len(nodes) * len(group)).remote(group[0], *questions)
            answers = iter(asked if isinstance(asked, list) else [asked])
            for forest in forests:
                for node in nodes:
                    forest.add(node, (next(answers), actor))
        return [forest.fold() for forest in forests]


def _merge(task: Any, chunk: Chunk, left: Place, right: Place) -> Place:
    """Have two answers merged where one of them is; chunks take turns, so that no actor does all the merging."""
    actor = (left, right)[chunk.index % 2][1]
    return actor.merge.remote(task, chunk, left[0], right[0]), actor


def _next(pending: dict[Any, int], watch: Watch, holders: int) -> Receipt:
    """Wait for one receipt; in Python, so that Ctrl-C is heard."""
    ready: list[Any] = []
    while not ready:
        watch.check(holders)
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=_LOOK_SECONDS)
    del pending[ready[0]]
    receipt: Receipt = ray.get(ready[0])
    return receipt


class Holder:
    """One actor. An error of holding is kept and told at the first question: raised here, Ray would take it for a lost worker."""

    def __init__(
        self, task: GatherTask | GatherStage, run: tuple[int, int], threads: int, retries: int, driver: Versions
    ) -> None:
        set_threads(threads)
        self._notes: list[str] = []
        self._kept = contextlib.ExitStack()
        self._kept.enter_context(logs.kept(self._notes))
        self._task = task
        self._nodes: list[Node] = decompose(*run)
        self._retries = retries
        self._failure: ScubaError | None = None
        try:
            check_this_process(driver)
            self._holding = attempt(partial(task.hold, *run), step=task.name, chunk=None, retries=retries)
        except ScubaError as error:
            self._failure = error

    def notes(self) -> list[str]:
        """What was logged here since this was asked last, as lines."""
        notes = list(self._notes)
        self._notes.clear()
        return notes

    def answer(self, chunk: Chunk, *questions: Any) -> Any:
        """Answers at each node of this run, question by question: one return value for each (a lone one is returned bare)."""
        if self._failure is not None:
            raise self._failure
        asked = partial(self._holding.answer, questions)
        answers = attempt(asked, step=self._task.name, chunk=chunk, retries=self._retries)
        values = [nodes[node] for nodes in answers for node in self._nodes]
        return values if len(values) > 1 else values[0]

    def merge(self, task: GatherTask, chunk: Chunk, left: Any, right: Any) -> Any:
        """The answer of two neighbouring nodes together."""
        return attempt(partial(task.merge, left, right), step=task.name, chunk=chunk, retries=self._retries)

    def write(self, task: GatherTask, chunk: Chunk, question: Any, answer: Any) -> Receipt:
        """Write the part of a chunk whose answer is complete."""
        return attempt(partial(task.write, chunk, question, answer), step=task.name, chunk=chunk, retries=self._retries)

    def finish(self, stage: GatherStage, chunk: Chunk, question: Any, answer: Any) -> StageOutput:
        """The rows of a question whose answer is complete."""
        return attempt(partial(stage.finish, question, answer), step=stage.name, chunk=chunk, retries=self._retries)
