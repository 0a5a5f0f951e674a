"""A step: one stage, completed for one unit. What is on disk is kept, what is missing is computed, what is stale is replaced.

A result is named by what made it. `result` is the fingerprint of the stage's settings, its version and its inputs' results; it is
what later steps depend on. A part's name also holds how the rows were cut, which changes no value: another `chunk` computes the
step again, but nothing after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ParamSpec

import pyarrow as pa

from scuba_ray import logs
from scuba_ray.errors import ConfigError, DataError, ScubaError
from scuba_ray.protocols import Analysis, Chunk, Engine, GatherStage, Receipt, Stage
from scuba_ray.tables import run_log
from scuba_ray.tables.columns import concatenated
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.gathering import GatherStageTask
from scuba_ray.tables.naming import ANALYSIS_KEY, analysis_made_of, cut, made_of
from scuba_ray.tables.progress import Progress, Result, Scratch, Taken
from scuba_ray.tables.record import RunRecord
from scuba_ray.tables.store import RunFolder, Unit
from scuba_ray.tables.worker import RESUMES, StageTask, run_chunk

Facts = ParamSpec("Facts")
_log = logging.getLogger(__name__)


class Steps:
    """Completes steps in a run folder. The engine starts with the first chunk that must be computed, not before.

    `with steps:` writes the run's log meanwhile, every line with `run_id`.
    """

    dry = False
    """Whether steps are only looked up (`tables/planned.py`), so that nothing may be written."""

    def __init__(
        self,
        run: RunFolder,
        engine: Callable[[], Engine],
        *,
        about: Mapping[str, Any],
        listen: Callable[[Progress], None] | None = None,
    ) -> None:
        """Start nothing yet; `engine` makes it when it is needed, `about` is what `run.json` says beside the steps."""
        self.run = run
        self._make_engine = engine
        self._engine: Engine | None = None
        self.run_id = logs.new_run_id()
        """Of this call; a run that is resumed has another one. Lines of the log, metrics and `run.json` say it."""
        self.record = RunRecord(run, {**about, "run_id": self.run_id})
        self.results: list[Result] = []
        """What has been completed, in order."""
        self._listen = listen or (lambda progress: None)
        self._stack = ExitStack()

    def __enter__(self) -> Steps:
        self._stack.enter_context(run_log.written(self.run.location, self.run_id))
        _log.info("a run begins in %s", self.run.location)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            _log.error("the run ends before it is complete: %s", str(error) or type(error).__name__, exc_info=error)
        self._stack.close()

    def complete(
        self,
        stage: Stage | GatherStage,
        *,
        key: str,
        rows: int,
        chunk: int,
        inputs: Sequence[str],
        here: bool = False,
        may_be_empty: bool = False,
        scratch: Scratch | None = None,
    ) -> Result:
        """Compute the chunks of `stage` that are not on disk and write the manifest.

        Rows that failed for reasons outside the data (`BadRow.retry`) are left to the next run with a warning, even all of them.

        Parameters
        ----------
        key : str
            The unit, as `subject/backbone`.
        rows : int
            Rows of the stage's input.
        chunk : int
            Rows a part is made of.
        inputs : sequence of str
            Fingerprints of what it reads.
        here : bool
            Compute in this process: for a step that takes less time than workers take to start.
        may_be_empty : bool
            Accept that nothing comes in or out: a bank's source may grow by files that are all unreadable.
        scratch : Scratch, optional
            A step of the same unit and inputs, completed first if there is something to compute; its table is deleted afterwards.

        Raises
        ------
        DataError
            If there is nothing to compute, nothing came of it, or a file is not what its layout promises.
        WorkerError
            If workers failed; finished parts are kept.
        """
        if rows == 0 and not may_be_empty:
            raise DataError(f"step {stage.name} ({key}): {stage.input_name} has no rows, so there is nothing to compute")
        made = made_of(stage, inputs, scratch)
        chunks = cut(rows, chunk)
        unit = self.run.begin(step=stage.name, table=stage.table, key=key, fingerprint=fingerprint(made, rows, chunk))
        began = time.perf_counter()
        missing = self.run.missing(unit, chunks)
        if missing:
            self.record.begin(unit)
        if missing and scratch:
            self.complete(scratch.stage, key=key, rows=scratch.rows, chunk=scratch.chunk, inputs=inputs, here=here)
            began = time.perf_counter()
        with logs.about(step=stage.name, key=key):
            receipts = self._compute(stage, unit, chunks, missing, here) if missing else []
        self.run.finish(unit, chunks, receipts)
        if scratch:
            self._discard(scratch.stage, key)
        written = self.run.rows(stage.table, key)
        taken = Taken(rows, written, len(chunks), len(missing), round(time.perf_counter() - began, 3))
        waiting = self.run.waiting(unit, chunks)
        if waiting:
            # what is not whole has a name of its own: later steps are computed again once it is
            made = fingerprint(made, waiting)
            self.warn(
                f"step {stage.name} ({key}): {len(waiting)} of {rows} rows of {stage.input_name} are left to the next run"
                f"{self._why(unit, chunks)}"
            )
        elif written == 0 and not may_be_empty:
            why = self._why(unit, chunks)
            raise DataError(f"step {stage.name} ({key}): not one of the {rows} rows of {stage.input_name} gave a result{why}")
        return self._done(unit, made, taken, chunks)

    def analyse(self, analysis: Analysis) -> Result:
        """Complete an analysis of the tables that steps have completed so far, in this process.

        Raises
        ------
        ConfigError
            If it reads a table that no step has written.
        """
        tables = {name: [result for result in self.results if result.table == name] for name in analysis.inputs}
        for name in (name for name, results in tables.items() if not results):
            known = ", ".join(sorted({result.table for result in self.results}))
            raise ConfigError(
                f"analysis {analysis.name} reads the table {name!r}, which this run does not write; it writes {known}"
            )
        table, made = f"analyses/{analysis.name}", analysis_made_of(analysis, self.results)
        unit = self.run.begin(step=analysis.name, table=table, key=ANALYSIS_KEY, fingerprint=made)
        whole = [Chunk(0, 0, 1)]
        began = time.perf_counter()
        missing = self.run.missing(unit, whole)
        if missing:
            self.record.begin(unit)
            unit.write(
                whole[0], analysis.run({name: self._read(tables[name], columns) for name, columns in analysis.inputs.items()})
            )
        self.run.finish(unit, whole)
        written = self.run.rows(table, ANALYSIS_KEY)
        taken = Taken(1, written, 1, len(missing), round(time.perf_counter() - began, 3))
        return self._done(unit, made, taken, whole)

    def once(self, name: str, inputs: Sequence[str], make: Callable[[], str]) -> str:
        """Make a file of the run from everything completed so far, unless the same made it before; return its location."""
        # sorted: `scuba analyze` completes the same in another order
        made = fingerprint(name, list(inputs), sorted(result.fingerprint for result in self.results))
        file = self.record.file(name, made)
        if file is None:
            began = time.perf_counter()
            file = make().removeprefix(f"{self.run.location}/")
            self.record.file_made(name, made, file, time.perf_counter() - began)
        return f"{self.run.location}/{file}"

    def note(self, **facts: Any) -> None:
        """Have `run.json` say something of the whole run, such as how often a service was asked."""
        self.record.about.update(facts)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers should know; `run.json` has them."""
        return self.record.warnings

    def warn(self, *messages: str) -> None:
        """Note what a reader of the numbers should know."""
        self.record.warnings += messages
        for message in messages:
            _log.warning("%s", message)

    def caution(self, look: Callable[Facts, Iterable[str]], *args: Facts.args, **kwargs: Facts.kwargs) -> None:
        """Note what a look at finished tables says that a reader of the numbers should know."""
        self.warn(*look(*args, **kwargs))

    def remove(self, table: str, key: str) -> None:
        """Delete a unit that this run does not make."""
        self.run.remove(table, key)

    def _compute(
        self, stage: Stage | GatherStage, unit: Unit, chunks: Sequence[Chunk], missing: Sequence[Chunk], here: bool
    ) -> list[Receipt]:
        """Run the missing chunks on the engine, reporting as receipts come in; about 200 bytes of receipt a chunk are kept."""
        began = time.perf_counter()
        resumed = len(chunks) - len(missing)
        rows_done = chunks[-1].stop - sum(chunk.stop - chunk.start for chunk in missing)
        done, bad, receipts = resumed, 0, list[Receipt]()

        def tell() -> None:
            seconds = time.perf_counter() - began
            self._listen(Progress(stage.name, unit.key, done, len(chunks), rows_done, chunks[-1].stop, bad, seconds, resumed))

        tell()
        _log.info("%d of %d chunks are to be computed", len(missing), len(chunks))
        try:
            for receipt in self._receipts(stage, unit, missing, here):
                _log.info("a chunk is done", extra=_facts(receipt))
                done += 1
                receipts.append(receipt)
                rows_done += receipt.chunk.stop - receipt.chunk.start
                bad += receipt.bad_rows
                tell()
        except ScubaError as error:
            raise type(error)(
                f"step {stage.name} ({unit.key}) failed: {str(error).removesuffix(RESUMES).rstrip()}\n"
                f"{done} of its {len(chunks)} chunks and all earlier steps are kept in {self.run.location}; "
                "run the same command again to resume"
            ) from error
        _log.info("the step is computed", extra={"seconds": round(time.perf_counter() - began, 3), "bad_rows": bad})
        return receipts

    def _receipts(self, stage: Stage | GatherStage, unit: Unit, chunks: Sequence[Chunk], here: bool) -> Iterator[Receipt]:
        if isinstance(stage, GatherStage):
            return self._running_engine().gather(GatherStageTask(stage, unit, self.run_id), chunks)
        task = StageTask(stage, unit, self.run_id)
        return _in_this_process(task, chunks) if here else self._running_engine().map(task, chunks)

    def _running_engine(self) -> Engine:
        if self._engine is None:
            engine = self._stack.enter_context(self._make_engine())
            self.record.differences = engine.check_versions()
            self.warn(*self.record.differences)
            engine.check_shared(self.run.location)
            self._engine = engine
        return self._engine

    def _read(self, results: Sequence[Result], columns: Sequence[str]) -> pa.Table:
        """Columns of a table, of the units completed by this run only."""
        return concatenated([self.run.read(result.table, key=result.key, columns=columns) for result in results])

    def _done(self, unit: Unit, made: str, taken: Taken, chunks: Sequence[Chunk]) -> Result:
        """Remember what the step made and took."""
        self.record.done(unit, made, taken, lambda: self.run.bad_rows(unit, chunks))
        self.results.append(Result(unit.table, unit.key, made, taken.rows, taken.chunks))
        return self.results[-1]

    def _discard(self, stage: Stage, key: str) -> None:
        """Delete what a step made for the next one only. It is no result of the run; what it took stays on record."""
        self.results = [result for result in self.results if (result.table, result.key) != (stage.table, key)]
        self.run.remove(stage.table, key)
        self.record.discarded(stage.name, stage.table, key)

    def close_record(self, *, with_earlier: bool = False) -> None:
        """Write `run.json` with this run's steps only: what an earlier configuration did is no part of a complete run.

        A bank keeps the `earlier` steps too: its other collections are part of it.
        """
        self.record.close(with_earlier=with_earlier)
        _log.info("every step is complete")

    def _why(self, unit: Unit, chunks: Sequence[Chunk]) -> str:
        bad = self.run.first_bad_row(unit, chunks)
        return f"; the first: {bad.key}: {bad.reason}" if bad else ""


def _in_this_process(task: StageTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
    task.setup()
    for chunk in chunks:
        yield run_chunk(task, chunk, retries=0)


def _facts(receipt: Receipt) -> dict[str, Any]:
    """What a line of the log says of a chunk."""
    told = {"seconds": round(receipt.seconds, 3), "rows": receipt.rows, "bad_rows": receipt.bad_rows}
    return {"chunk": receipt.chunk.index, **told}
