"""What is computed and where: chunks, stages that turn rows of one table into rows of another, and engines that spread them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Chunk:
    """A run of rows `[start, stop)` of a step's input. The pipeline cuts chunks, never the engine."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class BadRow:
    """A row that could not be computed: its key as `column=value` text and the reason in words."""

    key: str
    reason: str
    retry: bool = False
    """The fault lies outside the data (a service that does not answer): the next run computes the chunk again."""


@dataclass(frozen=True)
class StageOutput:
    """What a stage makes of some rows: the rows that worked and those that did not."""

    table: pa.Table
    bad: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """What comes back to the driver when a chunk's part is on disk. Results themselves never pass through the driver."""

    chunk: Chunk
    rows: int
    bad_rows: int
    seconds: float
    bytes: int = 0
    sha256: str = ""
    """Size and digest of the part, so that nobody need read it back to list it; empty where the task does not know them."""


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage holds: CPU cores and GPUs (fractions allowed) and heap memory in bytes."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None


@runtime_checkable
class Stage(Protocol):
    """A table function: rows of one Arrow schema in, rows of another out.

    Construction is cheap and picklable; weights are loaded by `setup`, once per worker. A stage holds no validation of its
    input or output schema (the worker wrapper does that) and does not know which engine runs it.
    """

    name: str
    """The step's name, as in messages: `encode`, `fit`, ..."""
    version: int
    """Raised whenever the same input gives another result; part of the fingerprint."""
    table: str
    """Name of the table it writes, a key of `tables.schemas.SCHEMAS`."""

    @property
    def resources(self) -> Resources: ...

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Columns that `read` must deliver; their absence is a ContractError."""
        ...

    @property
    def input_name(self) -> str:
        """Which table or dataset the rows come from, for messages: `voxels`, `stimuli of subj01`."""
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """Everything that can change a result, as JSON: settings, checkpoint hashes. Device and batch size stay out."""
        ...

    def setup(self) -> None: ...

    def read(self, chunk: Chunk) -> pa.Table: ...

    def __call__(self, rows: pa.Table) -> StageOutput: ...


@runtime_checkable
class PreparedStage(Stage, Protocol):
    """A stage whose rows can be made ready on plain CPU cores (pictures read and decoded) before the model sees them.

    It accepts rows as `read` gives them and as `prepare` gives them, and makes the same of both.
    """

    @property
    def preparation(self) -> Resources:
        """What one worker that only prepares holds."""
        ...

    def prepare(self, rows: pa.Table) -> pa.Table:
        """The rows ready for the model. Needs no `setup`: no network, no device."""
        ...


Node = tuple[int, int]
"""A place in the binary tree over segments: (level, index) covers the segments [index << level, (index + 1) << level)."""


class Holding(Protocol):
    """A run of segments that one worker holds in memory, or reads anew for every pass."""

    def answer(self, questions: Sequence[Any]) -> list[dict[Node, Any]]:
        """For each question its answers, merged as far up the tree as this run of segments reaches. One pass for all."""
        ...


@runtime_checkable
class GatherStage(Protocol):
    """A stage whose every row needs all of something too large for one worker: the bank.

    It is cut into `segments`, fixed pieces, each worker holds a run of them, and their answers merge along one fixed binary tree
    over the segments. So a result depends neither on the number of workers nor on who was first, to the last bit.
    """

    name: str
    version: int
    table: str

    @property
    def resources(self) -> Resources: ...

    @property
    def input_columns(self) -> tuple[str, ...]: ...

    @property
    def input_name(self) -> str: ...

    @property
    def segments(self) -> int:
        """How many pieces there are."""
        ...

    @property
    def held(self) -> str:
        """Names what a worker holds: one that holds it for an earlier stage (another subject) is used again."""
        ...

    @property
    def together(self) -> int:
        """Chunks answered in one pass, as memory allows."""
        ...

    def fingerprint(self) -> Mapping[str, Any]: ...

    def read(self, chunk: Chunk) -> pa.Table: ...

    def hold(self, first: int, stop: int) -> Holding:
        """On a worker: take the segments `[first, stop)`."""
        ...

    def question(self, rows: pa.Table) -> Any:
        """What the holders must know of some rows; sent to each of them once."""
        ...

    def merge(self, left: Any, right: Any) -> Any:
        """The answer of two neighbouring nodes together."""
        ...

    def finish(self, question: Any, answer: Any) -> StageOutput:
        """The rows, from the answer of all segments."""
        ...


class ChunkTask(Protocol):
    """What an engine runs: `setup` once per worker, then a call per chunk, which writes its part and returns a receipt."""

    @property
    def name(self) -> str: ...

    @property
    def resources(self) -> Resources: ...

    @property
    def tags(self) -> Mapping[str, str]:
        """What metrics of its chunks are labelled by: `step`, `table` and `run`."""
        ...

    @property
    def preparation(self) -> Resources | None:
        """What a worker that only prepares holds; None if chunks need no preparing."""
        ...

    def setup(self) -> None: ...

    def prepare(self, chunk: Chunk) -> pa.Table:
        """A chunk's rows, read and prepared: what another worker's call can be given."""
        ...

    def __call__(self, chunk: Chunk, rows: pa.Table | None = None) -> Receipt:
        """Compute and write a chunk; `rows` if another worker has prepared them."""
        ...


class GatherTask(Protocol):
    """What an engine gathers: like a ChunkTask, with questions and answers between reading a chunk and writing its part."""

    @property
    def name(self) -> str: ...

    @property
    def resources(self) -> Resources: ...

    @property
    def tags(self) -> Mapping[str, str]:
        """What metrics of its chunks are labelled by: `step`, `table` and `run`."""
        ...

    @property
    def segments(self) -> int: ...

    @property
    def held(self) -> str: ...

    @property
    def together(self) -> int: ...

    def hold(self, first: int, stop: int) -> Holding: ...

    def question(self, chunk: Chunk) -> Any: ...

    def merge(self, left: Any, right: Any) -> Any: ...

    def write(self, chunk: Chunk, question: Any, answer: Any) -> Receipt: ...


class Engine(Protocol):
    """Spreads chunks over workers. `with engine:` starts what it needs and stops only what it started."""

    name: str

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exc: object) -> None: ...

    def map(self, task: ChunkTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Run `task` on every chunk; receipts come in any order. Raises WorkerError (or the task's ScubaError)."""
        ...

    def gather(self, task: GatherTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Ask the holders of all segments about every chunk, merge their answers and write the parts; errors as in `map`."""
        ...

    def check_versions(self) -> list[str]:
        """Raise ConfigError if a node runs other code than the driver; return differences that need not matter, in words."""
        ...

    def check_shared(self, path: str) -> None:
        """Raise ConfigError unless every node sees `path` (a probe file written by the driver)."""
        ...
