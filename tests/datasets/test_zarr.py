"""Responses as zarr, both versions of the format: what the layout `arrays` gives comes back, on a disk and on a store."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import SubjectDataset
from tests.datasets import lab_files as lab
from tests.datasets.stores import stored

zarr = pytest.importorskip("zarr", minversion="3", reason="needs the package zarr: pip install zarr")


def write(folder: Path, version: int, *, bare: bool = False, turned: bool = False) -> dict[str, Any]:
    """A lab's data set with its responses as zarr: an array, or one of several in a group."""
    values = lab.responses()[:, lab.INSIDE]
    values = values.T if turned else values
    options = {**lab.write_tables(folder), **lab.write_voxels(folder)}
    if bare:
        made = zarr.create_array(str(folder / "r.zarr"), shape=values.shape, chunks=(5, 4), dtype="f4", zarr_format=version)
        made[:] = values
        return {**options, "responses": "r.zarr"}
    group = zarr.open_group(str(folder / "r.zarr"), mode="w", zarr_format=version)
    group.create_array("betas", data=values, chunks=(5, 4))
    group.create_array("other", data=np.ones(3))
    return {**options, "responses": "r.zarr:betas"}


def opened(path: str | Path, options: dict[str, Any]) -> SubjectDataset:
    return make_dataset(SubjectConfig(name="s1", dataset="files", path=str(path), options=options))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_give_what_arrays_gives(version: int, bare: bool, turned: bool, tmp_path: Path) -> None:
    reference = ArraysDataset("s1", str(lab.write_arrays(tmp_path / "arrays")))
    options = write(tmp_path / "lab", version, bare=bare, turned=turned)
    near = opened(tmp_path / "lab", options)
    with stored(tmp_path / "lab") as uri:
        far = opened(uri, options)
        for session in (1, 2, 3):
            for dataset in (near, far):
                np.testing.assert_array_equal(dataset.read_session(session), reference.read_session(session))
        assert far.fingerprint() == near.fingerprint()
    copytree(tmp_path / "lab", tmp_path / "other")
    assert opened(tmp_path / "other", options).fingerprint() == near.fingerprint()
    made = zarr.open(str(tmp_path / "other/r.zarr"), mode="r+")
    made = made if bare else made["betas"]
    made[0, 0] += 1
    assert opened(tmp_path / "other", options).fingerprint() != near.fingerprint()


@pytest.mark.parametrize("version", [2, 3])
def test_what_does_not_fit_is_named(version: int, tmp_path: Path) -> None:
    options = write(tmp_path, version)
    for given, words in (
        ("r.zarr", "r.zarr holds betas, other: say which one is meant, as r.zarr:betas"),
        ("r.zarr:alphas", "r.zarr holds betas, other: there is no 'alphas'"),
        ("r.zarr:other", r"r.zarr has shape \(3,\), wanted two axes"),
        ("none.zarr", "none.zarr is missing in"),
    ):
        with pytest.raises((ConfigError, DataError), match=words):
            opened(tmp_path, {**options, "responses": given})
    dataset = opened(tmp_path, options)
    chunks = [path for path in (tmp_path / "r.zarr/betas").rglob("*") if path.is_file() and path.name[0].isdigit()]
    assert len(chunks) == 16
    for path in chunks:
        path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(DataError, match=r"r\.zarr is truncated or damaged"):
        dataset.read_session(1)
    for path in (tmp_path / "r.zarr").rglob("*"):
        if path.is_file():
            path.write_bytes(b"{")
    with pytest.raises(DataError, match=r"r\.zarr cannot be read, or is not whole"):
        opened(tmp_path, options)
