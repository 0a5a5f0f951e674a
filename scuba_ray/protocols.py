"""Every seam on one page: what a part must offer to take part, and nothing about how.

Adding a backbone, captioner, dataset, ... is one new file plus one line in `registry.py`; the conformance tests of the seam
then run on it. Nothing heavy is imported here: torch, pyarrow and Pillow appear in annotations only.

Shapes: `S` stimuli, `T` trials, `D` embedding, `V` voxels, `K` bank images, `B` batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from PIL import Image


# ---------------------------------------------------------------------------------------------- what travels


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


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage holds: CPU cores and GPUs (fractions allowed) and heap memory in bytes."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None


# ---------------------------------------------------------------------------------------------- what is computed


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


# ---------------------------------------------------------------------------------------------- where


class ChunkTask(Protocol):
    """What an engine runs: `setup` once per worker, then a call per chunk, which writes its part and returns a receipt."""

    @property
    def name(self) -> str: ...

    @property
    def resources(self) -> Resources: ...

    def setup(self) -> None: ...

    def __call__(self, chunk: Chunk) -> Receipt: ...


class Engine(Protocol):
    """Spreads chunks over workers. `with engine:` starts what it needs and stops only what it started."""

    name: str

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exc: object) -> None: ...

    def map(self, task: ChunkTask, chunks: Sequence[Chunk]) -> Iterator[Receipt]:
        """Run `task` on every chunk; receipts come in any order. Raises WorkerError (or the task's ScubaError)."""
        ...

    def check_shared(self, path: str) -> None:
        """Raise ConfigError unless every node sees `path` (a probe file written by the driver)."""
        ...


# ---------------------------------------------------------------------------------------------- by which model


Scaling = Literal["unit", "standard"]
"""How `fit` scales a feature space: each row to length one (embeddings of a network), or each feature by the training images'
mean and deviation (features with units of their own)."""
LOW_LEVEL = "low-level"
"""Value of the `backbone` key column for the low-level baseline, and its name among `fit.bands`."""


class Backbone(Protocol):
    """An image/text embedding network. Embeddings are *raw*: CLIPCap was trained on un-normalised ones, norms matter.

    Built from a specification without loading weights; `load(device)` returns self, ready.
    """

    name: str
    """The value of the `backbone` key column."""
    dim: int
    scaling: Scaling
    """`unit` for every image/text network."""
    fingerprint: str
    """16 hex digits of the checkpoint's content: two backbones with equal fingerprints embed equally."""

    def load(self, device: str) -> Backbone: ...

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One RGB picture to a float tensor (3, H, W), as the network was trained."""
        ...

    def embed_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Raw image embeddings (B, D), float32, on the network's device."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Raw text embeddings (B, D), float32."""
        ...


@dataclass(frozen=True)
class CaptionBeam:
    """One decoded sentence with the mean log-probability its beam was ranked by."""

    text: str
    logprob: float


class Captioner(Protocol):
    """Turns projected embeddings into sentences. States which backbone it was trained for: a mismatch is a ConfigError."""

    fingerprint: str
    dim: int
    trained_for: str
    """Fingerprint (or published name) of the backbone whose raw embeddings it reads."""

    def load(self, device: str) -> Captioner: ...

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ConfigError unless `backbone` is the one this captioner reads."""
        ...

    def captions(self, embeddings_VD: torch.Tensor) -> list[list[CaptionBeam]]:
        """For each embedding its beams, best first. A row's beams do not depend on the rows beside it."""
        ...


# ---------------------------------------------------------------------------------------------- from which data


class ImageSource(Protocol):
    """A set of pictures: a listing (image_id str, uri str, source str) in a fixed order, and their bytes by uri."""

    def fingerprint(self) -> str: ...

    def listing(self) -> pa.Table: ...

    def read(self, uri: str) -> bytes: ...


@dataclass(frozen=True)
class Geometry:
    """A surface to draw on. `views` maps a view (`inflated`, `pial`, `flat`) to {hemi: (coords (N,3), faces (F,3))}."""

    space: str
    views: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
    background: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Per hemisphere a value per vertex to shade the folds with (sulcal depth)."""


class SubjectDataset(Protocol):
    """One subject's stimuli and responses, read lazily.

    `stimuli()`: stimulus_id str, uri str, split str (`train` | `test`), caption str (null where unknown, or no such column).
    `trials()`: trial i64, stimulus_id str, session i32, in the row order of `responses`.
    `voxels()`: voxel_id i64, hemi str, vertex i32 (null for volumes), i, j, k i32 (null for surfaces), xyz f32[3],
    rois list<str>, ncsnr f32 (null where unknown), in the column order of `responses`.
    """

    subject: str

    def fingerprint(self) -> str: ...

    def stimuli(self) -> pa.Table: ...

    def images(self) -> ImageSource: ...

    def trials(self) -> pa.Table: ...

    def voxels(self) -> pa.Table: ...

    def responses(self, start: int, stop: int) -> np.ndarray:
        """Single-trial responses (T, stop - start) of the voxels `[start, stop)`, float32; NaN where missing."""
        ...

    def geometry(self) -> Geometry | None: ...


# ---------------------------------------------------------------------------------------------- what it says


class Analysis(Protocol):
    """A finished run's tables in, one tidy table out (written to `RUN/analyses/NAME`)."""

    name: str
    version: int
    inputs: Mapping[str, tuple[str, ...]]
    """Tables it reads, and the columns of each; vectors of backbones with different lengths come as lists of variable length."""

    def fingerprint(self) -> Mapping[str, Any]: ...

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table: ...
