"""Anybody's files: every kind gives what the layout `arrays` gives, and what does not fit is named with its file."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import h5py
import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import SubjectConfig, load_config
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.datasets.files_layout import FilesDataset
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.pipeline import run
from tests.datasets import lab_files as lab
from tests.study import TinyStudy


def opened(folder: Path, options: dict[str, Any], **changes: Any) -> FilesDataset:
    config = SubjectConfig(name="s1", dataset="files", path=str(folder), options={**options, **changes})
    dataset = make_dataset(config)
    assert isinstance(dataset, FilesDataset)
    return dataset


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ArraysDataset:
    return ArraysDataset("s1", str(lab.write_arrays(tmp_path_factory.mktemp("arrays"))))


@pytest.mark.parametrize("kind", sorted(lab.KINDS))
def test_every_kind_of_file_gives_what_arrays_gives(kind: str, tmp_path: Path, reference: ArraysDataset) -> None:
    options = lab.write_lab(tmp_path / "lab", kind)
    made = opened(tmp_path / "lab", options)
    dataset: FilesDataset = pickle.loads(pickle.dumps(made))
    assert dataset.fingerprint() == made.fingerprint()
    assert dataset.stimuli().equals(reference.stimuli()) and dataset.trials().equals(reference.trials())
    voxels = dataset.voxels()
    assert voxels.schema.equals(reference.voxels().schema)
    for column in ("voxel_id", "rois", "ncsnr"):
        assert voxels[column].to_pylist() == reference.voxels()[column].to_pylist(), column
    for session in (1, 2, 3):
        read_TV = dataset.read_session(session)
        assert read_TV.dtype == np.float32
        np.testing.assert_allclose(read_TV, reference.read_session(session), rtol=1e-6)
        read_TV[:] = 0
    np.testing.assert_allclose(dataset.read_session(1), reference.read_session(1), rtol=1e-6)
    np.testing.assert_array_equal(decode_image(dataset.images().read("p3.png")), lab.pictures()[3])


def test_places_of_volumes_surfaces_and_grayordinates(tmp_path: Path) -> None:
    datasets = {kind: opened(tmp_path / kind, lab.write_lab(tmp_path / kind, kind)) for kind in ("MGH", "CIFTI")}
    made = {kind: dataset.voxels().to_pylist() for kind, dataset in datasets.items()}
    kind = "npy of a mask's voxels"
    volume = opened(tmp_path / kind, lab.write_lab(tmp_path / kind, kind)).voxels().to_pylist()
    i, j, k = np.unravel_index(lab.INSIDE, lab.SHAPE)
    assert [(row["i"], row["j"], row["k"]) for row in volume] == list(zip(i, j, k, strict=True))
    assert volume[3]["xyz"] == [2 * i[3] - 4, 2 * j[3] - 3, 2 * k[3] - 5] and volume[3]["hemi"] is None
    assert [(row["hemi"], row["vertex"]) for row in made["MGH"]][3:5] == [("lh", 22), ("rh", 1)]
    grid = datasets["CIFTI"].grid()
    assert datasets["MGH"].grid() is None and grid is not None and grid.shape == lab.SHAPE
    np.testing.assert_array_equal(grid.affine, lab.AFFINE)
    grey = made["CIFTI"]
    assert [(row["hemi"], row["vertex"]) for row in grey][3:5] == [("lh", 44), ("rh", 1)]
    assert grey[-1]["hemi"] is None and grey[-1]["vertex"] is None and (grey[-1]["i"], grey[-1]["j"], grey[-1]["k"]) == (0, 1, 4)


def test_a_fingerprint_follows_content_and_not_the_place(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path / "one", "npy")
    fingerprint = opened(tmp_path / "one", options).fingerprint()
    copytree(tmp_path / "one", tmp_path / "two")
    assert opened(tmp_path / "two", options).fingerprint() == fingerprint
    assert opened(tmp_path / "two", options, scale=2).fingerprint() != fingerprint
    values = np.load(tmp_path / "two/r.npy")
    values[3, 2] += 1
    np.save(tmp_path / "two/r.npy", values)
    assert opened(tmp_path / "two", options).fingerprint() != fingerprint


def test_test_images_by_rule(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "npy")
    by_share = opened(tmp_path, options, stimuli=None, images="images", test_share=0.4, seed=1)
    split = dict(zip(*(by_share.stimuli()[name].to_pylist() for name in ("stimulus_id", "split")), strict=True))
    assert 0 < list(split.values()).count("test") < 12 and set(split) == set(lab.shown())
    assert by_share.about()["test"] == "a share of 0.4, by id and seed 1"
    few = lab.shown()
    few[few.index("00004")] = "00005"
    pyarrow.csv.write_csv(pa.table({"stimulus": few}), tmp_path / "few.csv")
    by_repeats = opened(tmp_path, options, stimuli=None, trials="few.csv", test_repeats=4)
    assert by_repeats.stimuli().filter(pa.compute.equal(by_repeats.stimuli()["split"], "test"))["stimulus_id"].to_pylist() == [
        "00005"
    ]
    assert set(by_repeats.trials()["session"].to_pylist()) == {1} and "no column session" in by_repeats.notes()[0]
    with pytest.raises(ConfigError, match="one of them; got test_share and the column `split`"):
        opened(tmp_path, options, test_share=0.4)
    with pytest.raises(ConfigError, match=r"trials.csv has no column `split`, and neither option is given"):
        opened(tmp_path, options, stimuli=None)


def test_pictures_in_hdf5_and_parquet(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "npy")
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["pictures"] = lab.pictures()
    table = pa.table({"id": [f"p{index}.png" for index in range(12)], "image": [path.read_bytes() for path in _sorted(tmp_path)]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=5)
    stimuli = [f"{index:05d}" for index in range(12)]
    pq.write_table(pa.table({"stimulus": stimuli, "uri": range(12), "split": ["test"] + ["train"] * 11}), tmp_path / "n.parquet")
    for images, table, uri in (("p.h5:pictures", "n.parquet", "7"), ("p.parquet", "stimuli.csv", "p7.png")):
        dataset: FilesDataset = pickle.loads(pickle.dumps(opened(tmp_path, options, images=images, stimuli=table)))
        assert dataset.stimuli()["uri"][7].as_py() == uri
        np.testing.assert_array_equal(decode_image(dataset.images().read(uri)), lab.pictures()[7])
        with pytest.raises(DataError, match="has no picture '99'"):
            dataset.images().read("99")


def _sorted(folder: Path) -> list[Path]:
    return [folder / f"images/p{index}.png" for index in range(12)]


def test_an_array_that_could_be_either_way_round_asks(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "npy")
    square = np.arange(36 * 36, dtype=np.float32).reshape(36, 36)
    np.save(tmp_path / "r.npy", square)
    options = {name: value for name, value in options.items() if name != "voxels"}
    with pytest.raises(ConfigError, match=r"r.npy \(36, 36\): rows and columns both fit the 36 trials of trials.csv; say which"):
        opened(tmp_path, options)
    np.testing.assert_array_equal(opened(tmp_path, options, orientation="trials-first").read_session(2), square[12:24])
    np.testing.assert_array_equal(opened(tmp_path, options, orientation="voxels-first").read_session(2), square.T[12:24])


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "NIfTI, a file per session")
    path = tmp_path / "ses-02.nii.gz"
    path.write_bytes(path.read_bytes()[:-300])
    (tmp_path / "ses-03.nii.gz").unlink()
    table = (tmp_path / "stimuli.csv").read_text().splitlines()
    (tmp_path / "stimuli.csv").write_text("\n".join(table[:-1]) + "\n")
    with pytest.raises(DataError) as told:
        opened(tmp_path, options, images="pictures")
    words = str(told.value)
    for part in (
        "ses-02.nii.gz is truncated or damaged",
        "ses-03.nii.gz is missing in",
        "trials.csv names 1 stimuli that stimuli.csv does not have: 00011",
        "no folder of pictures at",
    ):
        assert part in words
    assert len(words.splitlines()) == 4


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("npy", {"responses": None}, "needs the options responses: which files"),
        ("npy", {"responses": 5}, r"option responses is 5, wanted str \| Sequence\[str\] \| Mapping\[str, str"),
        ("npy", {"scale": "x"}, r"option scale is 'x', wanted float \| None"),
        ("npy", {"orientation": "up"}, "no orientation 'up'; known: auto, trials-first, voxels-first"),
        ("npy", {"scale": 0}, "scale must be > 0, got 0"),
        ("npy", {"mask": "mask.nii.gz"}, "voxels says all of voxels: leave out mask"),
        ("npy", {"responses": "r.mat"}, "r.mat is missing in"),
        ("npy", {"responses": "trials.csv"}, r"trials.csv is of no kind that is read; wanted .npy, .npz:KEY"),
        ("npy", {"responses": "none*.npy"}, "no file is called .*none"),
        ("npy of whole numbers", {"scale": None}, "r.npy stores whole numbers without a scale"),
        ("NIfTI of whole numbers", {"scale": None}, "r.nii stores whole numbers without a scale"),
        ("npz", {"responses": "r.npz"}, "r.npz holds betas, other: say which one is meant, as r.npz:betas"),
        ("HDF5, voxels first", {"responses": "r.h5:alphas"}, "r.h5 holds betas: there is no 'alphas'"),
        ("Parquet lists", {"responses": "r.parquet:trial"}, "no column 'trial' of lists; it has trial, betas"),
        ("NIfTI of whole numbers", {"mask": None}, "r.nii holds volumes of 60 voxels: give a `mask`"),
        (
            "NIfTI, a file per session",
            {"responses": "ses-0[12].nii.gz"},
            "has 36 trials, but responses have 24: ses-01.nii.gz 12",
        ),
        ("npy", {"images": "none.h5:pictures"}, "none.h5 is missing in .*: it holds the pictures"),
        ("npy", {"geometry": "fsaverage"}, "geometry must be fsaverage5"),
    ],
)
def test_options_that_do_not_fit(kind: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, kind)
    with pytest.raises((ConfigError, DataError), match=words):
        opened(tmp_path, options, **changes)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("trials.csv", '"stimulus"', '"picture"', "trials.csv lacks column 'stimulus_id'; it has picture, session, rt"),
        ("trials.csv", '"00003"', '""', "trials.csv: column 'stimulus_id' has 3 empty values of 36"),
        ("trials.csv", ",2,", ",b,", "trials.csv: column 'session' is string, wanted whole numbers"),
        ("trials.csv", ",3,", ",4,", None),
        ("stimuli.csv", '"00003"', '"00004"', "stimuli.csv: stimulus_id must be unique, but 00004 is there more than once"),
        ("stimuli.csv", '"test"', '"val"', "stimuli.csv: split must be 'train' or 'test', got val"),
        ("voxels.csv", "\n31,", "\n22,", "voxels.csv: voxel_id must be unique, but 22 is there more than once"),
        ("voxels.csv", '"rh"', '"right"', "voxels.csv: hemi must be 'lh' or 'rh'"),
    ],
)
def test_tables_that_do_not_fit(name: str, old: str, new: str, words: str | None, tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "npy")
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    if words is None:
        assert set(opened(tmp_path, options).trials()["session"].to_pylist()) == {1, 2, 4}
        return
    with pytest.raises(DataError, match=words):
        opened(tmp_path, options)


def test_maps_that_do_not_fit_name_their_file(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "NIfTI of whole numbers")
    moved = lab.AFFINE.copy()
    moved[0, 0] *= -1
    nibabel.save(nibabel.Nifti1Image(lab.volume(lab.filled(lab.FACES)), moved), tmp_path / "flipped.nii.gz")
    swapped = np.ascontiguousarray(lab.volume(lab.filled(lab.FACES)).transpose(2, 1, 0))
    nibabel.save(nibabel.Nifti1Image(swapped, lab.AFFINE), tmp_path / "swapped.nii.gz")
    labels = [{"map": "labels.nii.gz", "names": {1: "V1"}}]
    with pytest.raises(DataError) as told:
        opened(tmp_path, options, rois={"a": "flipped.nii.gz", "b": "swapped.nii.gz", "c": "none.nii"}, labels=labels)
    lines = str(told.value).splitlines()
    assert "flipped.nii.gz lies elsewhere than" in lines[0] and "the affines differ" in lines[0]
    assert "swapped.nii.gz has shape (5, 3, 4), but" in lines[1] and "has (4, 3, 5): is it of another subject" in lines[1]
    assert "none.nii is missing in" in lines[2] and "labels.nii.gz has label 4, which has no name" in lines[3]
    with pytest.raises(DataError, match="holds no voxel: inside is where it is larger than 0"):
        nibabel.save(nibabel.Nifti1Image(np.zeros(lab.SHAPE, np.uint8), lab.AFFINE), tmp_path / "none.nii")
        opened(tmp_path, options, mask="none.nii")


def test_a_hemisphere_of_the_other_surface_is_named(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "MGH")
    np.save(tmp_path / "few.npy", np.ones(29))
    with pytest.raises(DataError, match=r"few.npy has 29 values, but lh of lh.responses.mgh has 30 vertices: is it of the other"):
        opened(tmp_path, options, rois={"faces": {"lh": "few.npy"}})
    with pytest.raises(ConfigError, match="wanted as lh and rh, got lh"):
        opened(tmp_path, options, responses={"lh": "lh.responses.mgh"})
    both = {"lh": "lh.responses.mgh", "rh": "rh.mask.mgh"}
    with pytest.raises(DataError, match=r"but responses have 1: rh.mask.mgh 1"):
        opened(tmp_path, options, responses=both)


def test_zarr_without_its_package_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = lab.write_lab(tmp_path, "npy")
    (tmp_path / "r.zarr").mkdir()
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ConfigError, match=r"r.zarr needs the package zarr, which is not installed: pip install zarr"):
        opened(tmp_path, options, responses="r.zarr")


def test_a_packed_file_of_many_sessions_is_mentioned(tmp_path: Path) -> None:
    options = lab.write_lab(tmp_path, "NIfTI of whole numbers")
    image = nibabel.load(tmp_path / "r.nii")
    nibabel.save(image, tmp_path / "r.nii.gz")
    dataset = opened(tmp_path, options, responses="r.nii.gz")
    assert "r.nii.gz holds several sessions and is read from its beginning for each" in dataset.notes()[0]
    np.testing.assert_array_equal(dataset.read_session(3), opened(tmp_path, options).read_session(3))


def test_a_run_on_files_gives_what_a_run_on_arrays_gives(study: TinyStudy, tmp_path: Path) -> None:
    options = {name: f"{name}.parquet" for name in ("trials", "stimuli", "voxels")}
    options |= {"responses": "responses.npy", "images": "images", "geometry": "fsaverage5"}
    place = {"path": str(study.folder / "subject")}
    subjects = [{"name": "arrays", **place}, {"name": "files", "dataset": "files", **place, "options": options}]
    voxels = run(study.config(subjects=subjects, out=str(tmp_path / "run"))).read("voxels").to_pylist()
    made = {name: [{**row, "subject": None} for row in voxels if row["subject"] == name] for name in ("arrays", "files")}
    assert made["arrays"] == made["files"] and len(made["files"]) == 12
    assert sum((row["r"] or 0) > 0.3 for row in made["files"]) >= 8


def test_the_example_is_a_data_set_once_its_files_are_there(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "examples/own_arrays.yaml"
    example = load_config(path).subjects[0]
    named = set(re.findall(r"^      (?:# )?([a-z_]+):(?: |$)", path.read_text(), re.MULTILINE))
    assert named == set(inspect.signature(FilesDataset).parameters) - {"subject", "path", "memory_mb", "seed"}
    lab.write_lab(tmp_path, "NIfTI, a file per session")
    for folder in ("betas", "masks"):
        (tmp_path / folder).mkdir()
    for number in (1, 2, 3):
        (tmp_path / f"ses-{number:02d}.nii.gz").rename(tmp_path / f"betas/ses-{number}_betas.nii.gz")
    for name, was in {"visual": "mask", "faces": "faces", "places": "ncsnr", "retinotopy": "labels"}.items():
        (tmp_path / f"{was}.nii.gz").rename(tmp_path / f"masks/{name}.nii.gz")
    dataset = opened(tmp_path, example.options)
    assert dataset.voxels()["rois"].to_pylist()[-1] == ["places", "hV4"]
    np.testing.assert_allclose(dataset.read_session(2), lab.by_session(lab.responses()[:, lab.INSIDE])[1], rtol=1e-6)
