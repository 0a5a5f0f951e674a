"""From which data, and what it says: sources of pictures, subjects, surfaces to draw on, analyses of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from scuba_ray.protocols.work import BadRow


class Pictures(Protocol):
    """Pictures by uri. Picklable; a worker opens it anew."""

    def fingerprint(self) -> str: ...

    def read(self, uri: str) -> bytes:
        """Bytes of one picture. Raises DataError (the picture's fault) or OSError (the disk's or network's)."""
        ...


class ImageSource(Pictures, Protocol):
    """What a bank's pictures come from: files that hold one picture each, or many (tar archives, Parquet tables).

    Built as `Source(path)` from a local path or a location that `pyarrow.fs` knows. Raises ConfigError if there is nothing at it.
    """

    def files(self) -> pa.Table:
        """Columns name str (relative to the path, unique) and bytes i64, sorted by name. No picture is read: a listing.
        Raises DataError if there are none."""
        ...

    def scan(self, names: Sequence[str]) -> tuple[pa.Table, list[BadRow]]:
        """The pictures in some files, in order: image_id str, uri str, bytes i64, digest str (`datasets.content.picture_digest`).

        `image_id` is unique in the source and does not depend on where the source lies; `uri` is what `read` takes. What cannot
        be read comes as bad rows `image_id=...` (or `file=...`), and the rest of its file is used as far as it goes. Reads every
        byte: workers do it.
        """
        ...


@dataclass(frozen=True)
class Geometry:
    """A surface to draw on. `views` maps a view (`inflated`, `pial`, `flat`) to {hemi: (coords (N,3), faces (F,3))}."""

    space: str
    views: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
    background: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Per hemisphere a value per vertex to shade the folds with (sulcal depth)."""


@dataclass(frozen=True)
class Grid:
    """The volume that voxels are cut from: `i`, `j`, `k` of `voxels()` are indices into `shape` (X, Y, Z)."""

    space: str
    """What the data set calls it (`func1pt8mm`, `T1w`); `native` where it has no name."""
    shape: tuple[int, int, int]
    affine: np.ndarray
    """(4, 4): indices from 0 to scanner millimetres, larger x to the right."""


class SubjectDataset(Protocol):
    """One subject's stimuli and responses, read lazily: its tables when it is opened, a session's responses when asked for.

    `stimuli()`: stimulus_id str, uri str, split str (`train` | `test`), caption str (null where unknown, or no such column);
    those that were shown, each once.
    `trials()`: trial i64 (0, 1, ...), stimulus_id str, session i32.
    `voxels()`: voxel_id i64, hemi str, vertex i32 (null for volumes), i, j, k i32 (null for surfaces), xyz f32[3],
    rois list<str>, ncsnr f32 (null where unknown), in the column order of `read_session`.
    """

    subject: str

    def fingerprint(self) -> str: ...

    def stimuli(self) -> pa.Table: ...

    def images(self) -> Pictures: ...

    def trials(self) -> pa.Table: ...

    def voxels(self) -> pa.Table: ...

    def read_session(self, session: int) -> np.ndarray:
        """Single-trial responses (T_s, V) of one session, float32; NaN where missing. The caller may write into it.

        Rows are the trials of `trials()` with that session, in that order. Sessions are asked for in rising order, each once, so
        that a file of one session is read once. Memory: T_s * V * 4 bytes and a buffer.
        """
        ...

    def geometry(self) -> Geometry | None: ...


@runtime_checkable
class Described(Protocol):
    """What a layout may say of itself beside the tables."""

    def about(self) -> Mapping[str, Any]:
        """What was chosen and found; `test` names the test set."""
        ...

    def notes(self) -> Sequence[str]:
        """What a reader should know of the files: what is missing, and how it was dealt with."""
        ...


@runtime_checkable
class Gridded(Protocol):
    """A layout that may hold volumes, and says which."""

    def grid(self) -> Grid | None:
        """The subject's own grid; None for surfaces, and where no file says where a volume lies."""
        ...


class Analysis(Protocol):
    """A finished run's tables in, one tidy table out (written to `RUN/analyses/NAME`)."""

    name: str
    version: int
    inputs: Mapping[str, tuple[str, ...]]
    """Tables it reads, and the columns of each; vectors of backbones with different lengths come as lists of variable length."""

    def fingerprint(self) -> Mapping[str, Any]: ...

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table: ...


@runtime_checkable
class Conditional(Protocol):
    """Optional, of an analysis' class: not every run can have it, and `analyses: all` leaves it out of those that cannot."""

    @staticmethod
    def lacking(config: Any) -> str | None:
        """Why a run of this configuration cannot have it, to follow its name: `needs a phantom, ...`; None if it can."""
        ...
