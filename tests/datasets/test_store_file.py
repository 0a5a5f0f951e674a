"""Files on a store: the same bytes as on a disk, asked for in few requests, and what is said where the store fails."""

from __future__ import annotations

import gzip
import io
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import fsspec
import h5py
import nibabel
import numpy as np
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.array_pictures import Hdf5Pictures
from scuba_ray.datasets.places import below, matching, on_disk, place, relative
from scuba_ray.datasets.store_file import BLOCK, StoreError
from scuba_ray.datasets.store_paths import StorePath
from scuba_ray.datasets.stored_array import open_npy
from scuba_ray.datasets.volumes import open_volumes
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables import files
from scuba_ray.tables.worker import attempt
from tests.datasets import lab_files as lab
from tests.datasets.nsd_files import DONE, Planted
from tests.datasets.s3_server import S3, served
from tests.datasets.stores import stored


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The folder `bucket` behind pyarrow's own client of S3."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "bucket").mkdir()
    with served(tmp_path / "bucket") as server:
        yield server


def at(s3: S3, name: str) -> StorePath:
    return StorePath.parse(s3.uri) / name


def test_bytes_are_those_of_the_file(s3: S3) -> None:
    data = random.Random(0).randbytes(3 * BLOCK + 12345)
    (s3.folder / "data.bin").write_bytes(data)
    rng, near = random.Random(1), io.BytesIO(data)
    with at(s3, "data.bin").open() as far:
        for _ in range(150):
            offset, size = rng.randrange(len(data) + 5), rng.choice([0, 1, 100, BLOCK - 1, BLOCK, 2 * BLOCK + 7, 10**9])
            assert far.seek(offset) == near.seek(offset) == far.tell()
            assert far.read(size) == near.read(size)
            assert far.read_at(offset, size) == data[offset : offset + size]
        assert far.seek(-10, io.SEEK_END) == len(data) - 10 and far.read() == data[-10:] and far.read(5) == b""
    with pytest.raises(FileNotFoundError):
        at(s3, "none.bin").open()


def test_a_packed_session_is_asked_for_once_and_without_a_copy(s3: S3, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(30, 31, 32, 60)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), s3.folder / "betas.nii.gz")
    size = (s3.folder / "betas.nii.gz").stat().st_size
    volumes = open_volumes(at(s3, "betas.nii.gz"))
    volumes.check_whole()
    headers = sum(s3.fetched("betas.nii.gz"))
    assert headers <= 2 * BLOCK + 10 < size / 2, "a header is the beginning of the file, its length is at the end"
    picked_TV = volumes.pick(np.arange(0, 29760, 7), memory=1 << 20)
    np.testing.assert_array_equal(picked_TV, volume.reshape(-1, 60)[::7].T)
    requests = s3.fetched("betas.nii.gz")
    assert sum(requests) - headers == size and max(requests) <= 8 * BLOCK and len(requests) <= size / BLOCK / 4 + 8


def test_a_picture_costs_its_own_bytes_not_the_file(s3: S3) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (60, 400, 400, 3), dtype=np.uint8)
    with h5py.File(s3.folder / "pictures.h5", "w") as file:
        file.create_dataset("imgBrick", data=pictures, chunks=(1, 400, 400, 3))
    far: Hdf5Pictures = pickle.loads(pickle.dumps(Hdf5Pictures(str(at(s3, "pictures.h5")), "imgBrick")))
    before = sum(s3.fetched("pictures.h5"))
    near = Hdf5Pictures(str(s3.folder / "pictures.h5"), "imgBrick")
    assert far.read("41") == near.read("41") and far.fingerprint() == near.fingerprint()
    s3.requests.clear()
    assert far.read("17") == near.read("17")
    assert before < 3 * BLOCK and sum(s3.fetched("pictures.h5")) <= 3 * BLOCK


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, ">i2"])
def test_arrays_on_a_store_are_sliced_like_arrays(order: str, dtype: object, s3: S3) -> None:
    made = np.asarray(np.random.default_rng(0).integers(-99, 99, (40, 70)), dtype, order=order)  # type: ignore[call-overload]
    np.save(s3.folder / "a.npy", made)
    np.save(s3.folder / "line.npy", made[0].copy())
    far = open_npy(at(s3, "a.npy"))
    assert (far.shape, far.ndim, far.dtype, len(far)) == (made.shape, 2, made.dtype, 40)
    some, columns = np.array([3, 4, 5, 9, 30, 31]), np.array([69, 0, 5])
    for key in (slice(7, 20), slice(5, 5), some, (slice(3, 30), columns), (slice(None), slice(2, 9))):
        np.testing.assert_array_equal(far[key], made[key])
    np.testing.assert_array_equal(far[some, columns], made[np.ix_(some, columns)])
    np.testing.assert_array_equal(np.asarray(far), made)
    np.testing.assert_array_equal(np.asarray(open_npy(at(s3, "line.npy"))), made[0])
    (s3.folder / "short.npy").write_bytes((s3.folder / "a.npy").read_bytes()[:-3])
    (s3.folder / "text.npy").write_bytes(b"no array, but text")
    np.save(s3.folder / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("short.npy", "text.npy", "objects.npy"):
        with pytest.raises(DataError, match=rf"s3://brains/data/{name}.* is not a readable \.npy array, or not whole"):
            open_npy(at(s3, name))
    with pytest.raises(DataError, match=r"none\.npy is missing in s3://brains/data"):
        open_npy(at(s3, "none.npy"))


def test_names_of_places(tmp_path: Path) -> None:
    for name in ("a/b-1.x.gz", "a/b-2.x.gz", "a/c/b-3.x.gz", "d/b-4.x.gz", "a/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with stored(tmp_path) as uri:
        root, near = StorePath.parse(uri), tmp_path
        path = root / "a/b-1.x.gz"
        assert (path.name, path.stem, path.suffix) == ("b-1.x.gz", "b-1.x", ".gz")
        assert path.parent == root / "a" and str(path) == f"{uri}/a/b-1.x.gz"
        assert place(str(path)) == path == pickle.loads(pickle.dumps(path)) and path.read_text() == "a/b-1.x.gz"
        assert relative(path, root) == "a/b-1.x.gz" and relative(path, near) == "b-1.x.gz" and relative(near / "a", root) == "a"
        for pattern in ("a/b-*.x.gz", "*/b-[34].x.gz", "?/c/*", "a/b-1.x.gz", "a/none", "d/../a/*1*"):
            wanted = sorted(one.resolve().relative_to(near).as_posix() for one in near.glob(pattern))
            assert sorted(one.inside for one in root.glob(pattern)) == wanted, pattern
            assert matching(root, pattern) == [*root.glob(pattern)]
        assert matching(near, f"{uri}/a/b-?.x.gz") == [] and len(matching(near, f"{uri}/a/b-[12].x.gz")) == 2
        assert {one.name for one in root.rglob("*.gz")} == {f"b-{number}.x.gz" for number in (1, 2, 3, 4)}
        assert {one.name: one.is_dir() for one in (root / "a").iterdir()} == {
            one.name: one.is_dir() for one in (near / "a").iterdir()
        }
        assert (root / "a").is_dir() and not (root / "a").is_file() and not (root / "none").exists() and path.is_file()
        assert below(root, "/x/y") == Path("/x/y") and below(near, uri) == root and below(root, "x") == root / "x"
        with on_disk(path) as copy:
            assert copy.name == path.name and copy.read_bytes() == path.read_bytes()
        assert not copy.exists() and [*(root / "none").iterdir()] == []
    with_options = StorePath.parse("s3://bucket/deep/folder/?region=here")
    assert str(with_options / "a.npy") == "s3://bucket/deep/folder/a.npy?region=here"
    with pytest.raises(ConfigError, match="is no URI of a store"):
        StorePath.parse("/a/b")


def nsd_at(s3: S3, planted: Planted, **options: object) -> SubjectConfig:
    s3.folder = planted.root
    return SubjectConfig(
        name="s1", dataset="nsd", path=s3.uri, options={"nsd_subject": "subj01", "sessions_done": DONE, **options}
    )


@pytest.mark.parametrize("kind", ["hdf5", "nifti"])
def test_a_network_that_fails_is_tried_again_and_no_fault_of_the_file(kind: str, nsd: Planted, s3: S3) -> None:
    config = nsd_at(s3, nsd, format=kind)
    dataset = make_dataset(config)
    s3.failing = "betas_session02"
    with pytest.raises(StoreError, match=r"s3://brains/data/.*betas_session02\.\S+ cannot be reached: .*400"):
        dataset.read_session(2)
    s3.failures = 2
    again_TV = attempt(lambda: dataset.read_session(2), step="read", chunk=None, retries=2)
    near = make_dataset(config.model_copy(update={"path": str(nsd.root)}))
    np.testing.assert_array_equal(again_TV, near.read_session(2))
    s3.failures = 1
    assert make_dataset(config).fingerprint() == near.fingerprint(), "opening is tried again, too"


def test_a_store_that_stays_away_is_said_in_words(nsd: Planted, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scuba_ray.datasets._PAUSES", (0.01, 0.01))
    config = nsd_at(s3, nsd)
    s3.failing = "nsd_expdesign.mat"
    with pytest.raises(DataError, match=r"s1 could not be opened, 3 times: s3://\S*nsd_expdesign\.mat\S* cannot be reached"):
        make_dataset(config)


def test_missing_credentials_are_said_in_words(nsd: Planted, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    config = nsd_at(s3, nsd)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    files.filesystem.cache_clear()
    with pytest.raises(ConfigError, match=r"s3://brains/data\S* may not be read: .*credentials .*on every node: for s3:// AWS"):
        make_dataset(config)
    files.filesystem.cache_clear()


def test_damage_on_a_store_names_the_file_there(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path / "lab", "NIfTI, a file per session")
    with stored(tmp_path / "lab") as uri:
        memory, name = fsspec.filesystem("memory"), uri.removeprefix("memory:/")
        whole = gzip.decompress(memory.cat_file(f"{name}/ses-02.nii.gz"))
        memory.pipe_file(f"{name}/ses-02.nii.gz", gzip.compress(whole)[:-200])
        memory.pipe_file(f"{name}/mask.nii.gz", b"no volume")
        memory.rm_file(f"{name}/trials.csv")
        config = SubjectConfig(name="s1", dataset="files", path=uri, options=options)
        with pytest.raises(DataError) as said:
            make_dataset(config)
        assert f"trials.csv is missing in {uri}" in str(said.value)
        assert f"{uri}/ses-02.nii.gz is truncated or damaged" in str(said.value)
        memory.pipe_file(f"{name}/ses-02.nii.gz", gzip.compress(whole))
        memory.pipe_file(f"{name}/trials.csv", (tmp_path / "lab/trials.csv").read_bytes())
    with stored(tmp_path / "lab") as uri:
        fsspec.filesystem("memory").pipe_file(f"{uri.removeprefix('memory:/')}/mask.nii.gz", b"no volume")
        with pytest.raises(DataError, match=rf"{uri}/mask\.nii\.gz is no readable NIfTI or MGH file"):
            make_dataset(SubjectConfig(name="s1", dataset="files", path=uri, options=options))
