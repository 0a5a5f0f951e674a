from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Gridded, SubjectDataset

Write = Callable[..., Path]


def replaced(folder: Path, table: str, column: str, values: object) -> None:
    """Rewrite one column of one of the data set's tables."""
    path = folder / f"{table}.parquet"
    old = pq.read_table(path)
    pq.write_table(old.set_column(old.column_names.index(column), column, pa.array(values)), path)


def test_a_data_set_gives_back_what_was_written(write_dataset: Write) -> None:
    folder = write_dataset()
    dataset: SubjectDataset = make_dataset(SubjectConfig(name="subj", path=str(folder)))
    assert dataset.subject == "subj"
    assert dataset.stimuli().column_names == ["stimulus_id", "uri", "split", "caption"]
    assert dataset.stimuli()["caption"].null_count == len(dataset.stimuli()), "captions are optional"
    assert dataset.voxels()["rois"].to_pylist() == [[]] * 5
    assert dataset.voxels()["ncsnr"].null_count == 5
    whole = np.load(folder / "responses.npy")
    np.testing.assert_array_equal(dataset.read_session(1), whole[12:24])
    dataset.read_session(1)[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(dataset.read_session(1), whole[12:24])
    assert dataset.images().read("s03.png") == (folder / "images/s03.png").read_bytes()
    geometry = dataset.geometry()
    assert geometry is not None and geometry.space == "fsaverage5"


def test_pickling_carries_the_location_only(write_dataset: Write) -> None:
    dataset = ArraysDataset("subj", str(write_dataset()))
    data = pickle.dumps(dataset)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).read_session(2), dataset.read_session(2))


def test_a_session_whose_trials_lie_apart_is_read_in_the_order_of_its_trials(write_dataset: Write) -> None:
    folder = write_dataset()
    replaced(folder, "trials", "session", pa.array([7, 3, 3] * 12, pa.int32()))
    dataset, whole = ArraysDataset("a", str(folder)), np.load(folder / "responses.npy")
    np.testing.assert_array_equal(dataset.read_session(7), whole[::3])
    np.testing.assert_array_equal(dataset.read_session(3), whole[[row for row in range(36) if row % 3]])


def test_fingerprint_follows_content_and_nothing_else(write_dataset: Write) -> None:
    one, other = write_dataset("one"), write_dataset("other")
    fingerprint = ArraysDataset("a", str(one)).fingerprint()
    os.utime(one / "responses.npy", (1, 1))
    assert ArraysDataset("b", str(one)).fingerprint() == fingerprint
    assert ArraysDataset("a", str(other)).fingerprint() == fingerprint
    (other / "images/s01.png").write_bytes((other / "images/s02.png").read_bytes())
    assert ArraysDataset("a", str(other)).fingerprint() != fingerprint
    responses = np.load(one / "responses.npy")
    responses[7, 3] += 1
    np.save(one / "responses.npy", responses)
    assert ArraysDataset("a", str(one)).fingerprint() != fingerprint


def test_float16_and_float64_responses_are_read_as_float32(write_dataset: Write) -> None:
    for name in ("float16", "float64"):
        folder = write_dataset(name, responses=np.ones((36, 5), name))
        assert ArraysDataset("a", str(folder)).read_session(0).dtype == np.float32


@pytest.mark.parametrize(
    ("responses", "words"),
    [
        (np.zeros((35, 5), np.float32), "35 rows, but trials.parquet has 36"),
        (np.zeros((36, 4), np.float32), "4 columns, but voxels.parquet has 5"),
        (np.zeros((36, 5), np.int16), "holds int16, wanted float32"),
        (np.zeros((36, 5, 1), np.float32), "wanted \\(trials, voxels\\)"),
        (np.array([{}]), "not a readable .npy"),
    ],
)
def test_responses_that_do_not_fit(write_dataset: Write, responses: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ArraysDataset("a", str(write_dataset(responses=responses)))


def test_all_that_is_wrong_is_told_at_once(write_dataset: Write) -> None:
    folder = write_dataset(responses=np.zeros((36, 5), np.int16))
    replaced(folder, "stimuli", "split", ["train"] * 11 + ["val"])
    replaced(folder, "voxels", "voxel_id", [1, 1, 2, 3, 4])
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(DataError) as told:
        ArraysDataset("a", str(folder))
    lines = str(told.value).splitlines()
    wanted = ("got val", "1 is there more than once", "holds int16", "images/ is missing")
    assert all(words in line for words, line in zip(wanted, lines, strict=True))


def test_a_truncated_array(write_dataset: Write) -> None:
    path = write_dataset() / "responses.npy"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="not whole"):
        ArraysDataset("a", str(path.parent))


@pytest.mark.parametrize(
    ("table", "column", "values", "words"),
    [
        ("stimuli", "stimulus_id", ["s00"] * 12, "s00 is there more than once"),
        ("stimuli", "split", ["train"] * 11 + ["val"], "got val"),
        ("stimuli", "split", ["test"] * 12, "nothing can be fitted"),
        ("trials", "stimulus_id", ["s99"] + ["s00"] * 35, "1 stimuli that stimuli.parquet does not have: s99"),
        ("trials", "stimulus_id", ["s00"] * 36, "11 stimuli have no trial"),
        ("trials", "trial", list(range(1, 37)), "must count 0 to 35"),
        ("trials", "session", [9] + [0] * 35, "session 9 has 0 training trials"),
        ("trials", "session", ["one"] * 36, "column 'session' is string, wanted int32"),
        ("trials", "session", [None] * 36, "36 empty values of 36"),
        ("voxels", "voxel_id", [1, 1, 2, 3, 4], "1 is there more than once"),
        ("voxels", "hemi", ["left"] * 5, "must be 'lh' or 'rh'"),
        ("voxels", "vertex", [0, 1, 2, 3, 10242], "0 to 10241, got 0 to 10242"),
    ],
)
def test_tables_that_do_not_fit(write_dataset: Write, table: str, column: str, values: list[object], words: str) -> None:
    folder = write_dataset()
    replaced(folder, table, column, values)
    with pytest.raises(DataError, match=words):
        ArraysDataset("a", str(folder))


@pytest.mark.parametrize("name", ["stimuli.parquet", "trials.parquet", "voxels.parquet", "responses.npy"])
def test_a_missing_or_damaged_file(write_dataset: Write, name: str) -> None:
    folder = write_dataset()
    (folder / name).write_bytes(b"not this")
    with pytest.raises(DataError, match="not a readable"):
        ArraysDataset("a", str(folder))
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        ArraysDataset("a", str(folder))


def test_a_missing_column_is_named_with_those_there(write_dataset: Write) -> None:
    folder = write_dataset()
    pq.write_table(pq.read_table(folder / "trials.parquet").drop_columns(["session"]), folder / "trials.parquet")
    with pytest.raises(DataError, match=r"lacks column 'session'; it has trial, stimulus_id"):
        ArraysDataset("a", str(folder))


def test_an_empty_table(write_dataset: Write) -> None:
    folder = write_dataset()
    pq.write_table(pq.read_table(folder / "stimuli.parquet").slice(0, 0), folder / "stimuli.parquet")
    with pytest.raises(DataError, match="has no rows"):
        ArraysDataset("a", str(folder))


def test_wrong_paths_and_layouts_are_errors_of_the_configuration(write_dataset: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        ArraysDataset("a", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"dataset.json is missing"):
        ArraysDataset("a", str(tmp_path))
    with pytest.raises(ConfigError, match="says layout 'nsd'"):
        ArraysDataset("a", str(write_dataset(description={"layout": "nsd"})))
    with pytest.raises(ConfigError, match=r"has no option 'mask'; its options: none"):
        make_dataset(SubjectConfig(name="a", path=str(write_dataset("good")), options={"mask": 1}))
    with pytest.raises(ConfigError, match="no folder of pictures"):
        make_images("folder", str(tmp_path / "nowhere"))


def test_a_newer_version_and_a_broken_description(write_dataset: Write) -> None:
    with pytest.raises(DataError, match="version 2"):
        ArraysDataset("a", str(write_dataset(description={"layout": "arrays", "version": 2})))
    folder = write_dataset("broken")
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="not readable JSON"):
        ArraysDataset("a", str(folder))


GRID = {"shape": [10, 12, 8], "affine": [[-2, 0, 0, 9], [0, 2, 0, -30], [0, 0, 2, -6], [0, 0, 0, 1]], "space": "T1w"}


def with_grid(write_dataset: Write, grid: object, **columns: object) -> ArraysDataset:
    voxels = {"voxel_id": [1, 2, 3], "i": [0, 9, None], "j": [11, 0, None], "k": [0, 7, None], **columns}
    types = {name: pa.int32() for name in "ijk"}
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in voxels.items()})
    description = {"layout": "arrays", "version": 1, "grid": grid}
    folder = write_dataset(f"grid{time.monotonic_ns()}", voxels=table, responses=np.zeros((36, 3)), description=description)
    return ArraysDataset("a", str(folder))


def test_a_grid_says_where_voxels_lie(write_dataset: Write) -> None:
    dataset = with_grid(write_dataset, GRID)
    grid = dataset.grid()
    assert isinstance(dataset, Gridded) and grid is not None and (grid.space, grid.shape) == ("T1w", (10, 12, 8))
    np.testing.assert_array_equal(grid.affine, GRID["affine"])
    assert dataset.voxels()["xyz"].to_pylist() == [[9, -8, -6], [-9, -30, 8], None]
    given = pa.array([None, [1, 2, 3], [4, 5, 6]], pa.list_(pa.float32(), 3))
    assert with_grid(write_dataset, GRID, xyz=given).voxels()["xyz"].to_pylist() == [[9, -8, -6], [1, 2, 3], [4, 5, 6]]
    plain = with_grid(write_dataset, None)
    assert plain.grid() is None and plain.voxels()["xyz"].null_count == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [10, 12]}, "got shape"),
        ({"shape": [10, 12, 0]}, "got shape"),
        ({"affine": [[1, 0], [0, 1]]}, "last row 0 0 0 1, got affine"),
        ({"affine": "eye"}, "last row 0 0 0 1, got affine"),
        ({"affine": [[1, 0, 0, 0]] * 3 + [[0, 0, 0, 1]]}, "takes different voxels to the same place"),
        ({"space": "T1w_res-2"}, "letters and digits"),
        ({"offset": 1}, "grid must be"),
        ({"shape": [10, 12, 7]}, r"voxel 2 lies at \[9, 0, 7\], outside of the grid of dataset.json with shape \[10, 12, 7\]"),
    ],
)
def test_a_grid_that_cannot_be_is_told(write_dataset: Write, change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        with_grid(write_dataset, {**GRID, **change})


def test_two_voxels_at_one_place_are_told(write_dataset: Write) -> None:
    with pytest.raises(DataError, match=r"2 voxels lie at \[9, 0, 7\]; one is wanted"):
        with_grid(write_dataset, GRID, i=[0, 9, 9], j=[11, 0, 0], k=[0, 7, 7])
    assert len(with_grid(write_dataset, GRID, i=[None] * 3, j=[None] * 3, k=[None] * 3).voxels()) == 3
