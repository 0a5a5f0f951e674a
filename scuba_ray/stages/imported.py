"""import: a user's own fitted weights, read from .npy, .npz or Parquet, become the table `voxels`; nothing is fitted.

What the voxel table says of a voxel (place, regions, bias, r2, r, noise ceiling, ...) is taken over, the rest is null. A voxel
whose weights cannot be used keeps its row: status `bad` where they are not finite, `zero` where all of them are 0. Arrays are
never unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.config import WeightsConfig
from scuba_ray.datasets.checks import check_unique, read_table
from scuba_ray.datasets.content import file_digest, text_digest
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Chunk, Resources, StageOutput
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import voxels_schema

PLACES = ("voxel_id", "hemi", "vertex", "i", "j", "k", "xyz", "rois")
SCORES = ("alpha", "r2", "r", "noise_ceiling", "r2_normalised", "p", "q", "split_half")
"""Taken over where the voxel table has them."""


class ImportedWeights:
    """Weights of one subject, opened and checked: one row of `dim` numbers per row of the voxel table.

    Picklable: only the settings travel.

    Raises
    ------
    ConfigError
        If a file is not there or of no kind that is read.
    DataError
        If a file is damaged, or weights, backbone and voxel table do not fit each other.
    """

    def __init__(self, subject: str, settings: WeightsConfig, dim: int) -> None:
        self._subject, self._settings, self._dim = subject, settings, dim
        self._weights = Path(settings.path).expanduser()
        self._table = Path(settings.voxels).expanduser() if settings.voxels is not None else self._weights
        for path in (self._weights, self._table):
            if not path.is_file():
                raise ConfigError(f"weights of {subject}: there is no file {path}")
        self._check_shape()

    def __reduce__(self) -> tuple[type[ImportedWeights], tuple[str, WeightsConfig, int]]:
        return type(self), (self._subject, self._settings, self._dim)

    def fingerprint(self) -> str:
        """Of both files' content."""
        return text_digest("weights", file_digest(self._weights), file_digest(self._table))

    @cached_property
    def voxels(self) -> pa.Table:
        """The voxel table: `PLACES`, bias and `SCORES`, null where it does not know."""
        schema = voxels_schema(1)
        wanted = pa.schema([schema.field(name) for name in (*PLACES, "bias", *SCORES)])
        table = read_table(self._table, wanted, ("voxel_id",))
        check_unique(self._table, table, "voxel_id")
        return table

    @cached_property
    def weights_VD(self) -> npt.NDArray[np.floating[Any]]:
        """The weights as they are in the file (V, dim); V * dim * 4 bytes of Parquet, memory-mapped from .npy."""
        return self._arrays[0]

    @cached_property
    def bias_V(self) -> npt.NDArray[np.float32]:
        """The bias, NaN where it is unknown."""
        inside = self._arrays[1]
        if inside is not None:
            return inside.astype(np.float32)
        bias_V: npt.NDArray[np.float32] = self.voxels["bias"].to_numpy(zero_copy_only=False).astype(np.float32)
        return bias_V

    @cached_property
    def _arrays(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """Weights, and the bias that came in the same .npz."""
        path = self._weights
        if path.suffix == ".parquet":
            return _parquet_weights(path), None
        if path.suffix not in {".npy", ".npz"}:
            raise ConfigError(f"weights of {self._subject}: {path} must be .npy, .npz or .parquet")
        try:
            loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
            if path.suffix == ".npy":
                return loaded, None
            if "weight" not in loaded.files:
                raise DataError(f"{path} has no array 'weight'; it has {', '.join(loaded.files) or 'none'}")
            return loaded["weight"], loaded["bias"] if "bias" in loaded.files else None
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{path} is not a readable {path.suffix} file of numbers, or not whole: {error}") from error

    def _check_shape(self) -> None:
        """Hold the weights against the backbone and the voxel table."""
        weights, bias = self._arrays
        shape, wanted = weights.shape, (len(self.voxels), self._dim)
        facts = (
            f"{self._weights} has shape {shape}, wanted {wanted}: {wanted[0]} voxels in {self._table.name} by {wanted[1]} "
            f"numbers of an embedding of {self._settings.backbone}"
        )
        if weights.dtype.kind != "f":
            raise DataError(f"{self._weights} holds {weights.dtype}, wanted floating-point numbers")
        if shape == wanted[::-1] and shape != wanted:
            raise DataError(f"{facts}; it lies the other way round: transpose it (weights.T)")
        if shape != wanted:
            raise DataError(facts)
        if bias is not None and bias.shape != wanted[:1]:
            raise DataError(f"{self._weights}: bias has shape {bias.shape}, wanted {wanted[:1]}, one number per voxel")


def _parquet_weights(path: Path) -> npt.NDArray[Any]:
    """Column `weight` of a Parquet file as an array (V, D); a row that is null becomes NaN."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    if "weight" not in table.column_names:
        raise DataError(f"{path} lacks column 'weight'; it has {', '.join(table.column_names)}")
    rows = table["weight"].combine_chunks()
    lengths = {len(row) for row in rows if row.is_valid} if pa.types.is_nested(rows.type) else set()
    if len(lengths) != 1:
        raise DataError(f"{path}: column 'weight' must hold lists of one length, got {rows.type} of lengths {sorted(lengths)}")
    weights_VD = np.full((len(rows), lengths.pop()), np.nan, np.float32)
    weights_VD[rows.is_valid().to_numpy(zero_copy_only=False)] = np.stack(rows.drop_null().to_numpy(zero_copy_only=False))
    return weights_VD


@dataclass(frozen=True, kw_only=True)
class ImportWeights:
    """One subject's own weights as the table `voxels`."""

    subject: str
    backbone: str
    weights: ImportedWeights
    dim: int
    resources: Resources

    name = "import"
    version = 1
    table = "voxels"
    input_columns = ("voxel_id", "row")

    @property
    def input_name(self) -> str:
        return f"weights of {self.subject}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"dim": self.dim}

    def setup(self) -> None:
        _ = self.weights.weights_VD

    def read(self, chunk: Chunk) -> pa.Table:
        voxels = self.weights.voxels.slice(chunk.start, chunk.stop - chunk.start)
        return voxels.append_column("row", pa.array(np.arange(chunk.start, chunk.stop)))

    def __call__(self, rows: pa.Table) -> StageOutput:
        row_V = rows["row"].to_numpy()
        with np.errstate(over="ignore"):
            weights_VD = np.asarray(self.weights.weights_VD[row_V], np.float32)
        finite_V = np.isfinite(weights_VD).all(axis=1)
        zero_V = finite_V & (weights_VD == 0).all(axis=1)
        usable_V = finite_V & ~zero_V
        columns = {
            **{name: rows[name] for name in PLACES},
            **{name: numbers(rows[name].to_numpy(zero_copy_only=False), usable_V) for name in SCORES},
            "subject": self.subject,
            "backbone": self.backbone,
            "weight": vectors(weights_VD, usable_V),
            "bias": numbers(self.weights.bias_V[row_V], usable_V),
            "status": np.select([~finite_V, zero_V], ["bad", "zero"], "ok").tolist(),
        }
        return StageOutput(table_of(voxels_schema(self.dim), columns))
