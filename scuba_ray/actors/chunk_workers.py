"""What Ray Data's actors run, and how they tell of it: a chunk's descriptor in, an answer out, errors as data with their kind.

A chunk may pass two of them: a `Preparer` on plain CPU cores, which reads and decodes, and a `ChunkWorker` that has the model.
Between them the prepared rows travel as one Arrow stream in one value, so that Ray neither splits nor converts them, and the
worker maps them from shared memory.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray import logs
from scuba_ray.actors.versions import Versions, check_this_process
from scuba_ray.errors import ConfigError, ContractError, DataError, ScubaError, WorkerError
from scuba_ray.protocols import Chunk, ChunkTask, Receipt
from scuba_ray.tables.worker import attempt, set_threads, set_up

CHUNK = ("index", "start", "stop")
_TOLD = ("rows", "bad_rows", "seconds", "bytes", "sha256")
"""What a receipt says of its chunk, in the order of its fields."""
_ERROR = [("error", pa.string()), ("message", pa.string()), ("trace", pa.string())]
_NOTES = ("notes", pa.list_(pa.string()))
"""What was logged of the chunk, as lines: the driver logs them again."""
_ANSWER = pa.schema(
    [
        *((name, pa.int64()) for name in CHUNK),
        ("rows", pa.int64()),
        ("bad_rows", pa.int64()),
        ("seconds", pa.float64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        *_ERROR,
        _NOTES,
    ]
)
_PREPARED = pa.schema([*((name, pa.int64()) for name in CHUNK), ("prepared", pa.large_binary()), *_ERROR, _NOTES])
_KINDS: dict[str, type[ScubaError]] = {kind.__name__: kind for kind in (ConfigError, DataError, ContractError, WorkerError)}


class Preparer:
    """Reads and decodes chunks for the workers that have the model. Holds no model itself."""

    def __init__(self, task: ChunkTask, retries: int, driver: Versions) -> None:
        assert task.preparation is not None, "made for tasks that can be prepared"
        self.task = task
        self.retries = retries
        self.driver = driver
        set_threads(max(round(task.preparation.cpus), 1))

    def __call__(self, descriptors: pa.Table) -> pa.Table:
        """Prepare the chunk described (one, by `batch_size`)."""
        chunk = _chunk(descriptors)
        rows, notes = list[pa.Table](), list[str]()
        with logs.kept(notes):
            error = _error_of(lambda: rows.append(self._prepare(chunk)))
        columns = [pa.array([getattr(chunk, name)], pa.int64()) for name in CHUNK]
        columns.append(_packed(rows[0]) if rows else pa.nulls(1, pa.large_binary()))
        columns += [pa.array([error.get(name)], kind) for name, kind in _ERROR]
        columns.append(pa.array([notes], _NOTES[1]))
        return pa.Table.from_arrays(columns, schema=_PREPARED)

    def _prepare(self, chunk: Chunk) -> pa.Table:
        check_this_process(self.driver)
        return attempt(lambda: self.task.prepare(chunk), step=self.task.name, chunk=chunk, retries=self.retries)


class ChunkWorker:
    """Holds the task, set up with the first chunk so that its errors come back like any other.

    `driver` is what the driver runs: a worker on a node that runs something else computes nothing.
    """

    def __init__(self, task: ChunkTask, threads: int, retries: int, driver: Versions) -> None:
        self.task = task
        self.threads = threads
        self.retries = retries
        self.driver = driver
        self._ready = False

    def __call__(self, descriptors: pa.Table) -> pa.Table:
        """Run the chunk described (one, by `batch_size`), prepared or not, and say how it went."""
        chunk = _chunk(descriptors)
        answer: dict[str, Any] = {name: getattr(chunk, name) for name in CHUNK}
        prepared = "prepared" in descriptors.column_names
        notes: list[str] = descriptors["notes"][0].as_py() if prepared else []
        if prepared and descriptors["error"][0].is_valid:
            answer |= descriptors.select([name for name, _ in _ERROR]).to_pylist()[0]
        else:
            with logs.kept(notes):
                answer |= _error_of(lambda: answer.update(self._run(chunk, descriptors["prepared"][0] if prepared else None)))
        answer["notes"] = notes
        return pa.Table.from_pylist([answer], _ANSWER)

    def _run(self, chunk: Chunk, prepared: pa.LargeBinaryScalar | None) -> dict[str, Any]:
        if not self._ready:
            check_this_process(self.driver)
            set_up(self.task, self.threads)
            self._ready = True
        rows = None if prepared is None else pa.ipc.open_stream(prepared.as_buffer()).read_all()
        receipt = attempt(lambda: self.task(chunk, rows), step=self.task.name, chunk=chunk, retries=self.retries)
        return {name: getattr(receipt, name) for name in _TOLD}


def receipt_of(answer: dict[str, Any]) -> Receipt:
    """A worker's answer as a receipt; raises the error it tells of, with the worker's traceback as a note.

    What the worker had to say is logged.
    """
    logs.tell_again(answer["notes"])
    if answer["error"] is not None:
        error = _KINDS[answer["error"]](answer["message"])
        error.add_note(answer["trace"])
        raise error
    chunk = Chunk(*(answer[name] for name in CHUNK))
    return Receipt(chunk, *(answer[name] for name in _TOLD))


def _chunk(descriptors: pa.Table) -> Chunk:
    (row,) = descriptors.select(CHUNK).to_pylist()
    return Chunk(**row)


def _error_of(work: Callable[[], None]) -> dict[str, str]:
    """Do some work; the error it raises, as data: kind, message and traceback, or nothing."""
    try:
        work()
    except ScubaError as error:
        kind = next(base.__name__ for base in (*type(error).__mro__, WorkerError) if base.__name__ in _KINDS)
        return {"error": kind, "message": str(error), "trace": traceback.format_exc()}
    return {}


def _packed(table: pa.Table) -> pa.LargeBinaryArray:
    """A table as one value, an Arrow stream; copied once."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, data.size])), data])
