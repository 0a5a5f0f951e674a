"""What runs on a worker: a stage on one chunk, its contract checked, its part written, its failing rows found.

A stage that raises is tried on halves of its rows until the rows at fault stand alone; they go to quarantine with the reason
and the rest is computed. Both engines call `run_chunk`, so an error means the same wherever it happened.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from scuba_ray.errors import ConfigError, ContractError, ScubaError, WorkerError
from scuba_ray.protocols import BadRow, Chunk, ChunkTask, PreparedStage, Receipt, Resources, Stage, StageOutput
from scuba_ray.tables.contract import BoundTask, check_input, check_output
from scuba_ray.tables.schemas import KEYS

Value = TypeVar("Value")
RESUMES = "Finished chunks are kept; running again resumes."
"""How every message of a failed step ends."""
_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.5
"""Before a chunk is tried again after a file or network error; doubled each time."""


class StageTask(BoundTask[Stage]):
    """A stage bound to the unit it fills: `setup` once per worker, then a call per chunk. Travels pickled."""

    @property
    def preparation(self) -> Resources | None:
        """What a worker that only prepares holds; None where there is nothing to prepare."""
        return self.stage.preparation if isinstance(self.stage, PreparedStage) else None

    def setup(self) -> None:
        """Load the stage's weights."""
        self.stage.setup()

    def prepare(self, chunk: Chunk) -> pa.Table:
        """A chunk's rows, read, checked and made ready for the model. Needs no `setup`."""
        rows = self._read(chunk)
        return self.stage.prepare(rows) if isinstance(self.stage, PreparedStage) else rows

    def __call__(self, chunk: Chunk, rows: pa.Table | None = None) -> Receipt:
        """Compute and write one chunk; `rows` if another worker has prepared them.

        Raises
        ------
        ContractError
            If the input lacks a column or the output is not the table it should be.
        WorkerError
            If every row of a chunk of more than one fails.
        """
        began = time.perf_counter()
        rows = self._read(chunk) if rows is None else rows
        try:
            output = self.stage(rows)
        except Exception as error:
            if not _is_about_rows(error):
                raise
            told = {"step": self.name, "chunk": chunk.index}
            _log.warning("the chunk failed as a whole; rows at fault are looked for", exc_info=error, extra=told)
            output = self._without_failing(rows, chunk, error)
        check_output(self.stage, output.table)
        part = self.unit.write(chunk, output.table, output.bad)
        return Receipt(chunk, part.rows, len(output.bad), time.perf_counter() - began, part.bytes, part.sha256)

    def _read(self, chunk: Chunk) -> pa.Table:
        rows = self.stage.read(chunk)
        check_input(self.stage, rows)
        return rows

    # ------------------------------------------------------------------------------------------ failing rows

    def _without_failing(self, rows: pa.Table, chunk: Chunk, error: Exception) -> StageOutput:
        """Compute what can be computed of `rows`, on which the stage as a whole raised `error`.

        The rows left are computed once more, together: the result is as if the failing ones had never been there.
        """
        failing = self._failing(rows, 0, error)
        bad = tuple(BadRow(self._key(rows, index, chunk), f"{type(why).__name__}: {why}") for index, why in failing)
        good = sorted(set(range(rows.num_rows)) - {index for index, _ in failing})
        if not good and rows.num_rows > 1:
            raise WorkerError(
                f"{self.name}: every row of chunk {chunk.index} ({rows.num_rows} rows) failed; the first: {bad[0].key}: "
                f"{bad[0].reason}. {RESUMES}"
            ) from error
        output = self.stage(rows.take(pa.array(good, pa.int64())))
        return StageOutput(output.table, output.bad + bad)

    def _failing(self, rows: pa.Table, offset: int, error: Exception) -> list[tuple[int, Exception]]:
        """Which of `rows` (numbered from `offset`) fail alone, in order, knowing that together they raised `error`."""
        if rows.num_rows <= 1:
            return [(offset, error)]
        found: list[tuple[int, Exception]] = []
        middle = rows.num_rows // 2
        for half, first in ((rows.slice(0, middle), 0), (rows.slice(middle), middle)):
            try:
                self.stage(half)
            except Exception as again:
                if not _is_about_rows(again):
                    raise
                found += self._failing(half, offset + first, again)
        return found

    def _key(self, rows: pa.Table, index: int, chunk: Chunk) -> str:
        """How a row is named in quarantine: the key columns it has, else its place in the step's input."""
        columns = [column for column in KEYS.get(self.stage.table, ()) if column in rows.column_names]
        if not columns or not rows.num_rows:
            return f"row={chunk.start + index}"
        return ", ".join(f"{column}={rows[column][index].as_py()}" for column in columns)


def _is_about_rows(error: Exception) -> bool:
    """Whether fewer rows might help. Not for settings, contracts, workers, files, or memory (torch's too, without torch)."""
    if isinstance(error, ConfigError | ContractError | WorkerError | MemoryError | OSError):
        return False
    return type(error).__name__ != "OutOfMemoryError"


def run_chunk(task: ChunkTask, chunk: Chunk, retries: int) -> Receipt:
    """Run one chunk; errors as in `attempt`."""
    return attempt(lambda: task(chunk), step=task.name, chunk=chunk, retries=retries)


def attempt(call: Callable[[], Value], *, step: str, chunk: Chunk | None, retries: int) -> Value:
    """Do a piece of a step's work; file and network errors are tried again, at most `retries` times.

    Raises
    ------
    ScubaError
        The call's own, unchanged; anything else as a WorkerError that names the step and the chunk, if it is about one.
    """
    for again in range(retries + 1):
        try:
            return call()
        except OSError as error:
            if again == retries:
                raise failure(step, error, chunk) from error
            told = {"step": step} if chunk is None else {"step": step, "chunk": chunk.index}
            _log.warning("try %d of %d failed: %s", again + 1, retries + 1, error, exc_info=error, extra=told)
            time.sleep(_PAUSE_SECONDS * 2**again)
        except ScubaError:
            raise
        except Exception as error:
            raise failure(step, error, chunk) from error
    raise AssertionError("the last attempt returns or raises")


def set_up(task: ChunkTask, threads: int) -> None:
    """Set a task up, with the same number of torch threads on every engine: sums are then taken in the same order.

    A task that computes with torch has it imported by now, or imports it in `setup`; one that does not is not made to wait.

    Raises
    ------
    ScubaError
        The task's own, unchanged; anything else as a WorkerError that names the step.
    """
    set_threads(threads)
    try:
        task.setup()
    except ScubaError:
        raise
    except Exception as error:
        raise failure(task.name, error, None) from error
    set_threads(threads)


def set_threads(threads: int) -> None:
    """Set torch's threads, if this process has loaded torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def failure(step: str, error: BaseException, chunk: Chunk | None) -> WorkerError:
    """An unexpected exception in words for the reader: step, rows, what was raised, what is kept."""
    where = f"chunk {chunk.index} (rows {chunk.start} to {chunk.stop})" if chunk else "setting up a worker"
    return WorkerError(
        f"{step} failed on {where}: {type(error).__name__}: {error}. Finished chunks are kept; running again resumes."
    )
