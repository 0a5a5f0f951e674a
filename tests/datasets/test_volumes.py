"""Series of volumes streamed through a buffer: every format, type and buffer gives the voxels that nibabel gives."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from scuba_ray.datasets.volumes import Volumes, open_volumes, read_volume
from scuba_ray.errors import DataError

SHAPE = (5, 4, 3)
VALUES = np.random.default_rng(0).integers(-3000, 3000, (*SHAPE, 11)).astype(np.int16)
VOXELS = np.array([0, 7, 8, 31, 59])


def saved(path: Path, dtype: str = "<i2") -> Path:
    if path.name.endswith(("mgh", "mgz")):
        image = nibabel.MGHImage(VALUES.astype(np.float32), np.eye(4))
    else:
        header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
        header.set_data_dtype(np.dtype(dtype))
        image = nibabel.Nifti1Image(VALUES.astype(dtype), np.eye(4), header)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("memory", [1, 3 * 60 * 8 + 1, 1 << 20])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.nii.gz", "<i2"), ("a.nii", ">i2"), ("a.nii.gz", "<f8"), ("a.nii", "<f4"), ("a.mgh", ">f4"), ("a.mgz", ">f4")],
)
def test_voxels_are_nibabels(tmp_path: Path, name: str, dtype: str, memory: int) -> None:
    volumes = open_volumes(saved(tmp_path / name, dtype))
    assert (
        volumes.shape == SHAPE
        and volumes.count == 11
        and volumes.dtype == np.dtype(dtype)
        and (volumes.slope, volumes.inter) == (1, 0)
    )
    picked = volumes.pick(VOXELS, memory)
    assert picked.dtype == np.float32
    np.testing.assert_array_equal(picked, VALUES.reshape(-1, 11)[VOXELS].T)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mgz"])
def test_a_file_that_ends_early_says_how_far_it_goes(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes()[: -400 if name == "a.nii" else -60])
    volumes = open_volumes(path)
    with pytest.raises(DataError, match=rf"{name} is truncated or damaged: \d+ of its 11 volumes could be read"):
        volumes.pick(VOXELS, 1)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mgz", "a.mgh"])
def test_whether_a_file_is_whole_is_told_without_reading_it(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    open_volumes(path).check_whole()
    path.write_bytes(path.read_bytes()[: -600 if name in {"a.nii", "a.mgh"} else -60])
    with pytest.raises(DataError, match=rf"{name} is truncated"):
        open_volumes(path).check_whole()


def test_a_packed_file_in_several_pieces_is_whole(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[:900]) + gzip.compress(whole[900:]))
    volumes = open_volumes(tmp_path / "b.nii.gz")
    volumes.check_whole()
    np.testing.assert_array_equal(volumes.pick(VOXELS), VALUES.reshape(-1, 11)[VOXELS].T)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose first byte cannot be read")
def test_a_disk_that_fails_is_no_damage_and_names_the_file() -> None:
    volumes = Volumes(Path("/proc/self/mem"), (2, 2, 2), 3, np.dtype("int16"), 1.0, 0.0, 0, np.eye(4))
    with pytest.raises(OSError, match=r"Input/output error: '/proc/self/mem'"):
        volumes.pick(np.arange(3))


def test_one_volume_or_several_whole(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VALUES[..., 0], np.diag([2, 2, 2, 1])), tmp_path / "one.nii.gz")
    values, affine = read_volume(tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(values, VALUES[..., 0])
    assert affine[0, 0] == 2
    nibabel.save(nibabel.MGHImage(VALUES[:, :1, :1, :3].astype(np.float32), np.eye(4)), tmp_path / "frames.mgz")
    assert read_volume(tmp_path / "frames.mgz")[0].shape == (5, 1, 1, 3)
    path = tmp_path / "one.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(1).normal(size=(20, 20, 20)), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"one.nii.gz is truncated or damaged"):
        read_volume(path)
    for name, words in (
        ("a.mgh", "is no MGH file: version"),
        ("a.mgz", "is no readable MGH file"),
        ("a.nii", "is no readable NIfTI"),
    ):
        (tmp_path / name).write_bytes(b"something else altogether " * 20)
        with pytest.raises(DataError, match=words):
            open_volumes(tmp_path / name)
    with pytest.raises(DataError, match=r"two.nii.gz is missing in"):
        read_volume(tmp_path / "two.nii.gz")
