"""A file of pairs to train a captioner on: picture or embedding, and caption."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import torch
from torch import Tensor

from scuba_ray.errors import ConfigError, DataError

_READERS: dict[str, Callable[[str], Any]] = {
    ".parquet": pyarrow.parquet.read_table,
    ".csv": pyarrow.csv.read_csv,
    ".jsonl": pyarrow.json.read_json,
}


@dataclass(frozen=True)
class Pairs:
    """Captions and what they belong to. Items are distinct pictures, or rows of embeddings."""

    name: str
    folder: Path
    caption: list[str]
    item: list[int]
    """Of each caption, which picture or embedding it describes."""
    picture: list[str]
    """Path of each distinct picture, relative to `folder`; empty where the file holds embeddings."""
    embedding_ID: Tensor | None

    @property
    def digest(self) -> str:
        """Over the pictures' names, sizes and times of change: what the cached embeddings belong to."""
        lines = []
        for name in self.picture:
            path = self.folder / name
            about = path.stat() if path.is_file() else None
            lines.append(f"{name}\t{about.st_size if about else -1}\t{about.st_mtime_ns if about else 0}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_pairs(path: Path, dim: int) -> Pairs:
    """Read a file of pairs.

    Parameters
    ----------
    path
        `.parquet`, `.csv` or `.jsonl` with columns `caption` and `image` (path relative to the file) or `embedding`.
    dim
        Length the embeddings must have.

    Raises
    ------
    ConfigError
        If the file is missing, of another kind or lacks a column.
    DataError
        If it cannot be read, is empty, has rows without a caption, or embeddings of another length or with NaN.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise ConfigError(f"--pairs {path}: want an existing file that ends in {', '.join(_READERS)}")
    try:
        table: pa.Table = reader(str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    what = next((name for name in ("embedding", "image") if name in table.column_names), None)
    if what is None or "caption" not in table.column_names:
        raise ConfigError(f"{path}: want columns caption and image (or embedding), got {', '.join(table.column_names)}")
    if not table.num_rows:
        raise DataError(f"{path} holds no pairs")
    empty = [row for row, value in enumerate(table["caption"].to_pylist()) if not isinstance(value, str) or not value.strip()]
    if empty:
        raise DataError(f"{path}: {len(empty)} rows have no caption, first: row {empty[0]}")
    caption: list[str] = table["caption"].to_pylist()
    if what == "embedding":
        return Pairs(path.name, path.parent, caption, list(range(len(caption))), [], _matrix(path, table["embedding"], dim))
    names = [str(name) for name in table["image"].to_pylist()]
    place = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return Pairs(path.name, path.parent, caption, [place[name] for name in names], list(place), None)


def _matrix(path: Path, column: pa.ChunkedArray, dim: int) -> Tensor:
    """A list column as float32 (N, dim)."""
    rows = column.combine_chunks()
    lengths = set(pa.compute.list_value_length(rows).to_pylist())
    if lengths != {dim}:
        raise DataError(f"{path}: the backbone's embeddings have length {dim}, the file's {sorted(map(str, lengths))[:5]}")
    embedding_ND = torch.tensor(rows.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)).reshape(-1, dim)
    if not embedding_ND.isfinite().all():
        raise DataError(f"{path}: embeddings hold NaN or infinity")
    return embedding_ND
