"""Embeddings that other programs wrote: which arrays a folder holds, in what order, and what goes with each.

clip-retrieval  img_emb/img_emb_N.npy and metadata/metadata_N.parquet; row i of one is row i of the other
published       NNNNN.npy and NNNNN_idx.npy (BrainSCUBA's own pools); index -1 marks a picture that could not be read
npy             one array, or all arrays of a folder in the order of their names; perhaps one table for all rows
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from scuba_ray.errors import ConfigError, DataError

Layout = Literal["clip-retrieval", "published", "npy"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_IMAGES, _NAMES = "img_emb", "metadata"
_INDEX = "_idx"
_NUMBERED = re.compile(r"(?:img_emb|metadata)_(\d+)")


@dataclass(frozen=True)
class Piece:
    """One array of embeddings (rows, dim), a picture a row."""

    array: Path
    rows: int
    dim: int
    dtype: str
    names: Path | None = None
    """Table with ids and addresses of the pictures,"""
    first: int = 0
    """the first of the table's rows that belongs to this array."""
    index: Path | None = None
    """Array (rows,): -1 where the picture could not be read."""


def find(path: Path, layout: Layout | None, metadata: Path | None) -> tuple[Layout, tuple[Piece, ...]]:
    """The arrays at `path`, in order. The layout is found out where none is given.

    Raises
    ------
    ConfigError
        If nothing is there, or more than one layout could be meant: the message lists what was found.
    DataError
        If an array is damaged or no (rows, dim) floating-point numbers, or what belongs to it is missing.
    """
    if not path.exists():
        raise ConfigError(f"there is nothing at {path}: give a .npy file, or a folder of embeddings, on this machine")
    layout = layout or _detect(path)
    if metadata is not None and layout != "npy":
        raise ConfigError(f"--metadata belongs to the layout npy; {path} is of the layout {layout}, which names its own pictures")
    pieces = _FINDERS[layout](path, metadata)
    if not pieces:
        raise ConfigError(f"{path} holds no embeddings in the layout {layout}; it holds {_contents(path)}")
    return layout, tuple(pieces)


def open_array(path: Path) -> npt.NDArray[Any]:
    """A .npy file, memory-mapped and never unpickled. Raises DataError if it is damaged, truncated or no array of numbers."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)  # np.load takes zip archives and pickles too
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole .npy file of numbers: {error}") from error
    return np.asarray(array)


# ---------------------------------------------------------------------------------------------- which layout


def _detect(path: Path) -> Layout:
    """The one layout that `path` can be."""
    if path.is_file():
        return "npy"
    indices = {one.stem.removesuffix(_INDEX) for one in path.glob(f"*{_INDEX}.npy")}
    arrays = [one.stem for one in _arrays(path) if not one.stem.endswith(_INDEX)]
    plain = [name for name in arrays if name not in indices]
    found: dict[Layout, str] = {}
    if (path / _IMAGES).is_dir():
        found["clip-retrieval"] = f"a folder {_IMAGES}/"
    if indices:
        found["published"] = f"{len(indices)} NAME{_INDEX}.npy"
    if plain:
        named = ", ".join([f"{name}.npy" for name in plain[:3]] + ["..."] * (len(plain) > 3))
        found["npy"] = f"{len(plain)} .npy without an {_INDEX}.npy ({named})"
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise ConfigError(f"{path} holds no embeddings ({', '.join(LAYOUTS)}); it holds {_contents(path)}")
    listed = "; ".join(f"{name}: {what}" for name, what in found.items())
    raise ConfigError(f"{path} could be read in {len(found)} layouts ({listed}); say which with --layout")


def _contents(path: Path) -> str:
    if path.is_file():
        return f"a file {path.name}"
    names = sorted(one.name + "/" * one.is_dir() for one in path.iterdir() if not one.name.startswith("."))
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def _arrays(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("*.npy") if not one.name.startswith("."))


# ---------------------------------------------------------------------------------------------- what it holds


def _clip_retrieval(path: Path, metadata: Path | None) -> list[Piece]:
    """Arrays in the order of their numbers, zero-padded or not, each with the table of its number."""
    arrays, tables = _numbered(path / _IMAGES, "img_emb_*.npy"), _numbered(path / _NAMES, "metadata_*.parquet")
    for number in sorted(arrays.keys() ^ tables.keys()):
        there, lacking = (
            (arrays[number], f"{_NAMES}/metadata_N.parquet") if number in arrays else (tables[number], f"{_IMAGES}/*.npy")
        )
        raise DataError(
            f"{path}: {there.relative_to(path)} has no {lacking} of its number; if there never was one, import the folder "
            f"{_IMAGES} as plain arrays (--layout npy)"
        )
    return [_piece(arrays[number], names=tables[number]) for number in sorted(arrays)]


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Files by the number in their name."""
    found: dict[int, Path] = {}
    for file in sorted(folder.glob(pattern)):
        match = _NUMBERED.fullmatch(file.stem)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DataError(f"{folder}: {found[number].name} and {file.name} have the same number: remove the one that is stale")
        found[number] = file
    return found


def _published(path: Path, metadata: Path | None) -> list[Piece]:
    """`NNNNN.npy` in the order of their names, as BrainSCUBA's projection reads them, each with its `NNNNN_idx.npy`."""
    arrays = _arrays(path) if path.is_dir() else [path]
    names = {one.stem for one in arrays}
    pieces = []
    for array in arrays:
        stem = array.stem.removesuffix(_INDEX)
        partner = array.with_name(f"{stem}.npy" if array.stem.endswith(_INDEX) else f"{stem}{_INDEX}.npy")
        if partner.stem not in names and not partner.is_file():
            raise DataError(f"{array} has no {partner.name} beside it: the published layout wants both")
        if array.stem.endswith(_INDEX):
            continue
        piece, index = _piece(array, index=partner), open_array(partner)
        if index.shape != (piece.rows,) or index.dtype.kind not in "iu":
            raise DataError(f"{partner} holds {index.dtype} of shape {index.shape}, wanted {piece.rows} whole numbers, one a row")
        pieces.append(piece)
    return pieces


def _npy(path: Path, metadata: Path | None) -> list[Piece]:
    pieces, first = [], 0
    for array in [path] if path.is_file() else _arrays(path):
        pieces.append(_piece(array, names=metadata, first=first))
        first += pieces[-1].rows
    return pieces


_FINDERS: dict[Layout, Callable[[Path, Path | None], list[Piece]]] = {
    "clip-retrieval": _clip_retrieval,
    "published": _published,
    "npy": _npy,
}


def _piece(array: Path, **beside: Any) -> Piece:
    """Look at one array's header."""
    found = open_array(array)
    if found.ndim != 2 or found.dtype.kind != "f" or found.dtype.itemsize > 8:
        raise DataError(
            f"{array} holds {found.dtype} of shape {found.shape}, wanted float16, float32 or float64 of shape (pictures, dim)"
        )
    return Piece(array, found.shape[0], found.shape[1], found.dtype.newbyteorder("=").name, **beside)
