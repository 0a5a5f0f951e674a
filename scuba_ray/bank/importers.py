"""Embeddings of other programs as rows of a bank: their pictures' ids and addresses, and the norms they may lack.

The norm is part of the method: CLIPCap was trained on un-normalised embeddings, and a projection takes its length from the bank.
clip-retrieval and NeMo Curator save unit vectors, so whoever imports those states a norm, and the bank says which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from scuba_ray.bank import layouts
from scuba_ray.bank.layouts import Layout, Piece
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables.columns import vectors

IDS = ("image_id", "key", "image_path", "id")
ADDRESSES = ("uri", "url", "path", "image_path")
"""Columns of a table of pictures that name them and say where they are; the first one there is taken."""
NORMS = b"norms"
"""Key of a shard's schema metadata: whence its norms (`str(Norms)`). Shards of embedded pictures lack it: those are raw."""
UNIT = 1e-3
"""Norms within this of 1 are those of unit vectors, rounded to float16 or not."""
SAMPLE = 1024
"""Rows looked at to tell unit vectors from raw embeddings."""


@dataclass(frozen=True)
class Norms:
    """The norms of unit embeddings: one constant, or a file with a norm for every row; neither for raw embeddings."""

    constant: float | None = None
    file: Path | None = None

    def __str__(self) -> str:
        """What a shard says: `raw`, `constant 10.2` or `file`."""
        return "file" if self.file else "raw" if self.constant is None else f"constant {self.constant:g}"

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32] | None:
        """Norms of rows `[start, stop)`, none for raw embeddings."""
        if self.file is not None:
            return np.asarray(layouts.open_array(self.file)[start:stop], np.float32)
        return None if self.constant is None else np.full(stop - start, self.constant, np.float32)


@dataclass(frozen=True)
class Embeddings:
    """Embeddings in the arrays of one of the layouts, rows numbered through all arrays. Holds paths only: it travels to workers.

    Use `open_embeddings` to have them checked.
    """

    layout: Layout
    pieces: tuple[Piece, ...]
    prefix: str = ""
    """Stands before every picture's id."""

    @property
    def rows(self) -> int:
        """Rows of all arrays."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.pieces[0].dim

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is read, in order, each once."""
        return tuple(dict.fromkeys(file for piece in self.pieces for file in (piece.array, piece.names, piece.index) if file))

    def named(self, start: int, stop: int) -> pa.Table:
        """Columns image_id and uri of rows `[start, stop)`."""
        return pa.concat_tables([_named(piece, self.prefix, *rows) for piece, *rows in self._cut(start, stop)])

    def read(self, start: int, stop: int) -> pa.Table:
        """Rows `[start, stop)`: image_id, uri, readable (bool) and embedding, of the arrays' own float type."""
        tables = []
        for piece, first, last in self._cut(start, stop):
            rows_ND = layouts.open_array(piece.array)[first:last].astype(self.dtype)
            readable_N = np.ones(last - first, bool)
            if piece.index is not None:
                readable_N = layouts.open_array(piece.index)[first:last] != -1
            table = _named(piece, self.prefix, first, last).append_column("readable", pa.array(readable_N))
            tables.append(table.append_column("embedding", vectors(rows_ND)))
        return pa.concat_tables(tables)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The widest float type of the arrays."""
        return np.result_type(*{piece.dtype for piece in self.pieces})

    def sampled_norms(self) -> npt.NDArray[np.float64]:
        """Norms of at most `SAMPLE` rows spread evenly over all arrays, without those that are zero or not finite."""
        wanted, norms, start = np.unique(np.linspace(0, self.rows - 1, SAMPLE).astype(np.int64)), [], 0
        for piece in self.pieces:
            mine = wanted[(wanted >= start) & (wanted < start + piece.rows)] - start
            norms.append(np.linalg.norm(layouts.open_array(piece.array)[mine].astype(np.float64), axis=1))
            start += piece.rows
        norm_N: npt.NDArray[np.float64] = np.concatenate(norms)
        return norm_N[np.isfinite(norm_N) & (norm_N > 0)]

    def _cut(self, start: int, stop: int) -> list[tuple[Piece, int, int]]:
        """The pieces that rows `[start, stop)` lie in, with their own rows."""
        found, offset = [], 0
        for piece in self.pieces:
            first, last = max(start - offset, 0), min(stop - offset, piece.rows)
            if first < last:
                found.append((piece, first, last))
            offset += piece.rows
        return found


def open_embeddings(path: str, *, layout: Layout | None = None, metadata: str | None = None, prefix: str = "") -> Embeddings:
    """Find the embeddings at a local path and check that they belong together. Reads headers and tables of pictures only.

    Raises
    ------
    ConfigError
        If nothing is there, or its layout is unclear.
    DataError
        If arrays are damaged or differ in dim, or a table of pictures has not a row for each of theirs.
    """
    names = None if metadata is None else Path(metadata).expanduser().absolute()
    if names is not None and not names.is_file():
        raise ConfigError(f"--metadata: there is no file {names}")
    found, pieces = layouts.find(Path(path).expanduser().absolute(), layout, names)
    for piece in pieces:
        if piece.dim != pieces[0].dim:
            raise DataError(
                f"{piece.array} has {piece.dim} numbers a row, {pieces[0].array.name} has {pieces[0].dim}: of different networks"
            )
    for table, rows in _rows_of_tables(pieces).items():
        has = _table_rows(table)
        if has != rows:
            raise DataError(f"{table} has {has} rows, its arrays have {rows}: one row a picture, in the same order")
    embeddings = Embeddings(found, pieces, prefix)
    if not embeddings.rows:
        raise DataError(f"{path} holds {len(pieces)} arrays without a row")
    return embeddings


def choose_norms(embeddings: Embeddings, constant: float | None, file: str | None, hint: Callable[[], str]) -> Norms:
    """Norms for unit embeddings as stated, none for raw ones; refuses whatever would make them up or overwrite them.

    Parameters
    ----------
    hint : callable
        Gives the end of the message that asks for a norm: what a reader may take.

    Raises
    ------
    ConfigError
        If unit embeddings come without a norm, raw ones with one, or both ways are given.
    DataError
        If unit and raw embeddings are mixed, or the file has not a norm for each row.
    """
    if constant is not None and file is not None:
        raise ConfigError("give --norm (one for all) or --norms (a file), not both")
    if constant is not None and not (np.isfinite(constant) and constant > 0):
        raise ConfigError(f"--norm must be a number > 0, got {constant:g}")
    given, norm_N = constant is not None or file is not None, embeddings.sampled_norms()
    share = float((abs(norm_N - 1) <= UNIT).mean()) if len(norm_N) else 0.0
    if 0.5 <= share < 1:
        raise DataError(f"{share:.0%} of the sampled rows are unit vectors and the others are not: import the two kinds apart")
    if share == 1 and not given:
        raise ConfigError(
            f"these embeddings are unit vectors (all {len(norm_N)} sampled rows): their norms are lost. The norm is part of the "
            "method: CLIPCap was trained on un-normalised embeddings, and a projection takes its length from the bank. "
            f"Give --norms FILE (.npy, a norm per row) if you have them, or state one for all with --norm X; {hint()}"
        )
    if share < 1 and given:
        raise ConfigError(
            f"these embeddings have norms of their own (sampled: {_spread(norm_N)}): they are kept, so give no --norm or --norms"
        )
    norms = Norms(constant, None if file is None else Path(file).expanduser().absolute())
    if norms.file is not None:
        found = layouts.open_array(norms.file)
        if found.shape != (embeddings.rows,) or found.dtype.kind != "f":
            raise DataError(
                f"{norms.file} holds {found.dtype} of shape {found.shape}, wanted {embeddings.rows} floating-point numbers, "
                "a norm for every row of the arrays"
            )
    return norms


def _spread(norm_N: npt.NDArray[np.float64]) -> str:
    return f"{norm_N.min():.3g} to {norm_N.max():.3g}" if len(norm_N) else "none that is finite and not zero"


# ---------------------------------------------------------------------------------------------- tables of pictures


def _named(piece: Piece, prefix: str, first: int, last: int) -> pa.Table:
    """image_id and uri of an array's rows `[first, last)`; where its table names no picture, ARRAY/ROW does."""
    ids = pc.binary_join_element_wise(piece.array.stem, pa.array(np.arange(first, last)).cast(pa.string()), "/")
    uris = pa.repeat("", last - first)
    if piece.names is not None:
        names = _names(piece.names, piece.names.stat().st_mtime_ns).slice(piece.first + first, last - first)
        ids, uris = (_or_else(names[column], default) for column, default in (("image_id", ids), ("uri", uris)))
    if prefix:
        ids = pc.binary_join_element_wise(prefix, ids, "")
    return pa.table({"image_id": ids, "uri": uris})


def _or_else(column: pa.ChunkedArray, default: pa.Array) -> pa.ChunkedArray:
    """The column, with the default where it is null or empty."""
    return pc.if_else(pc.fill_null(pc.not_equal(column, ""), False), column, default)


@lru_cache(maxsize=1)
def _names(path: Path, written: int) -> pa.Table:
    """image_id and uri of a table of pictures, null where it does not say. Chunks of one table come one after the other."""
    try:
        if path.suffix == ".csv":
            with pacsv.open_csv(path) as file:
                columns = file.schema.names
            texts = pacsv.ConvertOptions(column_types={name: pa.string() for name in columns})  # "000012" is no number
            table = pacsv.read_csv(path, convert_options=texts)
        else:
            columns = pq.read_schema(path).names
            table = pq.read_table(path, columns=[name for name in dict.fromkeys(IDS + ADDRESSES) if name in columns])
        found = {}
        for name, wanted in (("image_id", IDS), ("uri", ADDRESSES)):
            column = next((one for one in wanted if one in columns), None)
            found[name] = pa.nulls(table.num_rows, pa.string()) if column is None else table[column].cast(pa.string())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable table of pictures: {error}") from error
    if not set(columns) & set(IDS + ADDRESSES):
        raise DataError(f"{path} names no pictures: wanted one of {', '.join(IDS + ADDRESSES)}; it has {', '.join(columns)}")
    return pa.table(found)


def _rows_of_tables(pieces: tuple[Piece, ...]) -> dict[Path, int]:
    """How many rows the arrays of each table of pictures have together."""
    rows: dict[Path, int] = {}
    for piece in pieces:
        if piece.names is not None:
            rows[piece.names] = rows.get(piece.names, 0) + piece.rows
    return rows


def _table_rows(path: Path) -> int:
    if path.suffix == ".csv":
        return int(_names(path, path.stat().st_mtime_ns).num_rows)
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
