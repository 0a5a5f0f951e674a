"""Tables of names are read as the challenge saved them, and a pickle that says anything else is refused before it runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scuba_ray.datasets.label_names import read_label_names
from scuba_ray.errors import DataError


def saved(path: Path, table: Any) -> Path:
    np.save(path, table)
    return path


def crafted(path: Path, payload: bytes) -> Path:
    """The header of an object array, and any pickle after it."""
    np.save(path, {0: "Unknown"})  # type: ignore[arg-type]
    header = path.read_bytes()[:128]
    path.write_bytes(header + payload)
    return path


def test_names_are_read_without_what_has_no_label(tmp_path: Path) -> None:
    table = {0: "Unknown", 1: "OFA", 2: "FFA-1", 3: "FFA-2"}
    assert read_label_names(saved(tmp_path / "m.npy", table)) == {1: "OFA", 2: "FFA-1", 3: "FFA-2"}
    assert np.load(tmp_path / "m.npy", allow_pickle=True).item() == table


def test_labels_may_be_numpys_numbers_and_any_protocol(tmp_path: Path) -> None:
    table = {np.int64(0): "Unknown", np.int64(300): "V1v", np.int32(2): "V1d"}
    assert read_label_names(saved(tmp_path / "m.npy", table)) == {300: "V1v", 2: "V1d"}
    array = np.empty((), object)
    array[()] = {1: "early"}
    for protocol in (3, 4, 5):
        path = crafted(tmp_path / "p.npy", pickle.dumps(array, protocol=protocol))
        assert read_label_names(path) == {1: "early"}
    # as numpy before 2 wrote it
    old = pickle.dumps(array, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert read_label_names(crafted(tmp_path / "old.npy", old)) == {1: "early"}


class Touches:
    """What a malicious file may hold: unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = saved(tmp_path / "mapping_floc-faces.npy", {0: "Unknown", 1: Touches(mark)})
    with pytest.raises(DataError, match=r"mapping_floc-faces.npy is not a table of names .*posix.system|nt.system"):
        read_label_names(path)
    assert not mark.exists()
    np.load(path, allow_pickle=True)
    assert mark.exists()  # the file would have run it


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.ndarray.tofile", "os.system", "codecs.encode"])
def test_nothing_but_what_an_array_is_made_of_is_found(tmp_path: Path, name: str) -> None:
    module, _, attribute = name.partition(".")
    payload = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(attribute)]) + attribute.encode()
    with pytest.raises(DataError, match=f"asks for {name}"):
        read_label_names(crafted(tmp_path / "m.npy", payload + b"\x93."))


@pytest.mark.parametrize("table", [[1, 2], {"OFA": 1}, {1: b"OFA"}, {1: {"a": "b"}}, np.arange(3), {1.5: "OFA"}], ids=str)
def test_other_contents_are_no_table(tmp_path: Path, table: Any) -> None:
    array = np.empty((), object)
    array[()] = table
    np.save(tmp_path / "m.npy", array)
    with pytest.raises(DataError, match="is not a table of names"):
        read_label_names(tmp_path / "m.npy")


def test_damage_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m.npy is missing in .*: it names the labels"):
        read_label_names(tmp_path / "m.npy")
    whole = saved(tmp_path / "m.npy", {1: "OFA"}).read_bytes()
    for data in (whole[:-5], whole[:130], whole[:20], b"", b"no array at all"):
        (tmp_path / "m.npy").write_bytes(data)
        with pytest.raises(DataError, match="is not a table of names"):
            read_label_names(tmp_path / "m.npy")
    saved(tmp_path / "m.npy", np.arange(4))
    with pytest.raises(DataError, match="is not a table of names"):
        read_label_names(tmp_path / "m.npy")
    (tmp_path / "m.npy").write_bytes(whole + bytes(1 << 20))
    with pytest.raises(DataError, match="no table of names is larger"):
        read_label_names(tmp_path / "m.npy")
