"""Names of labels from a `mapping_*.npy` of the Algonauts challenge, without ever running what such a file says.

The challenge keeps each table of names, a Python dictionary of label and name, as a pickled object array. A pickle is a program:
unpickling it as numpy does (`allow_pickle=True`) lets whoever wrote the file run anything. Here the classes that such an array
is made of are replaced by inert ones that keep what they are given; any other name is refused before it is imported, so nothing
but dictionaries, numbers and text can come out.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from scuba_ray.datasets.places import Place
from scuba_ray.errors import DataError

_LARGEST = 1 << 20
"""Bytes beyond which a file is no table of names."""
_UNREADABLE = (pickle.UnpicklingError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _Kept:
    """Stands for an array or a type of numpy: keeps its arguments and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _number(_: _Kept, data: bytes) -> int:
    """A numpy integer, from its bytes."""
    return int.from_bytes(data, "little", signed=True)


_INERT: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Kept,
    ("numpy", "dtype"): _Kept,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Kept for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _number for core in ("core", "_core")},
}


class _Inert(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what a table of names is made of; nothing is imported."""
        if (module, name) not in _INERT:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table of names needs")
        return _INERT[module, name]


def read_label_names(path: Place) -> dict[int, str]:
    """Names of labels; 0, which is what has no label, is left out.

    Raises
    ------
    DataError
        If the file is missing, is no such table, or asks for anything a table of names does not need.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}: it names the labels of the regions")
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path} has {path.stat().st_size} bytes: no table of names is larger than {_LARGEST}")
    file = io.BytesIO(path.read_bytes())
    try:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        names = _table(_Inert(file).load()) if dtype.hasobject and shape == () else None
    except _UNREADABLE as error:
        raise DataError(f"{path} is not a table of names and was not opened further: {error}") from error
    if names is None:
        raise DataError(f"{path} is not a table of names: wanted a dictionary of label and name, as the challenge saved it")
    return {label: name for label, name in names.items() if label > 0}


def _table(array: Any) -> dict[int, str] | None:
    """The one dictionary in an object array, if that is what it is."""
    state = array.state if isinstance(array, _Kept) else None
    if not (isinstance(state, tuple) and isinstance(state[-1], list) and len(state[-1]) == 1 and isinstance(state[-1][0], dict)):
        return None
    table = state[-1][0]
    known = all(type(label) is int and type(name) is str for label, name in table.items())
    return table if known else None
