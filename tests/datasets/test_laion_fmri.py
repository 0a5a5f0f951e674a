"""The `laion_fmri` layout against files of the data set's kind: what is planted comes back, what does not fit is named."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest

from scuba_ray.config import SubjectConfig, load_config
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.laion_fmri import LaionFmriDataset
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import SubjectDataset
from scuba_ray.tables.store import RunFolder
from tests.datasets.laion_fmri_files import AFFINE, SHAPE, Planted, save, small_laion, write_session, write_split, write_surfaces
from tests.preparing import prepare_responses, written_out


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return small_laion(tmp_path_factory.mktemp("laion"))


@pytest.fixture
def own(planted: Planted, tmp_path: Path) -> Planted:
    """A copy that a test may spoil."""
    shutil.copytree(planted.root, tmp_path / "own")
    return Planted(**{**vars(planted), "root": tmp_path / "own"})


def opened(planted: Planted, **options: Any) -> LaionFmriDataset:
    return LaionFmriDataset("sub-01", str(planted.root), **options)


def responses(dataset: SubjectDataset) -> np.ndarray:
    return np.concatenate([dataset.read_session(session) for session in sorted(set(dataset.trials()["session"].to_pylist()))])


def test_betas_come_back_in_place_and_in_the_volumes_order(planted: Planted) -> None:
    """Fails for axes in another order, and for trials in the order of the table's rows instead of `beta_index`."""
    dataset = opened(planted)
    np.testing.assert_array_equal(responses(dataset), planted.responses_TV)
    places = np.stack([dataset.voxels()[name].to_numpy() for name in "ijk"], axis=1)
    np.testing.assert_array_equal(places, planted.ijk_V3)
    assert dataset.trials()["stimulus_id"].to_pylist() == planted.names_T.tolist()
    assert dataset.trials()["session"].to_pylist() == planted.session_T.tolist()
    np.testing.assert_array_equal(dataset.voxels()["voxel_id"].to_numpy(), np.ravel_multi_index(tuple(planted.ijk_V3.T), SHAPE))
    np.testing.assert_allclose(dataset.voxels()["xyz"].to_pylist(), planted.ijk_V3 @ AFFINE[:3, :3].T + AFFINE[:3, 3], atol=1e-4)


def test_a_small_buffer_changes_nothing(planted: Planted) -> None:
    one = opened(planted)
    one._memory = 3 * 4 * int(np.prod(SHAPE)) + 5
    np.testing.assert_array_equal(one.read_session(2), opened(planted).read_session(2))


def test_a_scale_in_the_header_is_applied(own: Planted) -> None:
    image = nibabel.load(own.betas(2))
    values = np.nan_to_num(np.asarray(image.dataobj))
    stored = nibabel.Nifti1Image(np.round((values - 2) / 0.001).astype(np.int16), AFFINE)
    stored.header.set_slope_inter(0.001, 2.0)
    nibabel.save(stored, own.betas(2))
    wanted = own.responses_TV[own.session_T == 2]
    np.testing.assert_allclose(opened(own).read_session(2), wanted, atol=6e-4)


def test_pictures_and_captions_are_their_images(planted: Planted) -> None:
    dataset = opened(planted)
    stimuli = dataset.stimuli().to_pylist()
    assert {row["stimulus_id"] for row in stimuli} == set(planted.names_T)
    for row in stimuli:
        assert dataset.images().read(row["uri"]) == planted.pictures[row["stimulus_id"]]
        assert row["caption"] == f"first, of {row['stimulus_id']}"
    assert opened(planted, captions="ai").stimuli()["caption"].unique().to_pylist() == ["by a model"]
    assert opened(planted, captions=None).stimuli()["caption"].null_count == 30
    with pytest.raises(DataError, match="no picture '31': they are numbered 0 to 30"):
        dataset.images().read("31")


def test_regions_and_masks(planted: Planted, tmp_path: Path) -> None:
    def voxels(mask: str) -> list[int]:
        return opened(planted, mask=mask).voxels()["voxel_id"].to_pylist()

    ids = np.ravel_multi_index(tuple(planted.ijk_V3.T), SHAPE)
    assert voxels("FFA1") == voxels("FFA-1") == voxels("face") == ids[planted.region_V == "faces"].tolist()
    assert voxels("laiongeneral - V1v") == ids[planted.region_V != "early"].tolist()
    assert voxels("EBA + character") == ids[np.isin(planted.region_V, ["bodies", "words"])].tolist()
    assert set(voxels("brain")) > set(ids.tolist()) and len(voxels("brain")) >= 7 * 13 * 9
    mine = np.zeros(SHAPE)
    mine[3, 4, 5] = 1
    np.save(tmp_path / "mine.npy", mine)
    assert voxels(str(tmp_path / "mine.npy")) == [int(np.ravel_multi_index((3, 4, 5), SHAPE))]
    names = {"faces": ["FFA1"], "bodies": ["EBA"], "places": ["PPA"], "words": ["VWFA1"], "early": ["EVC", "V1v"], "none": []}
    assert opened(planted).voxels()["rois"].to_pylist() == [names[region] for region in planted.region_V]
    rois = opened(planted, rois=["face", "laiongeneral"]).voxels()["rois"].to_pylist()
    assert rois == [["FFA1", "laiongeneral"] if region == "faces" else ["laiongeneral"] for region in planted.region_V]


def test_noise_ceilings_of_four_trials_become_ncsnr(own: Planted) -> None:
    s = opened(own).voxels()["ncsnr"].to_numpy().astype(float)
    np.testing.assert_allclose(100 * s**2 / (s**2 + 1 / 4), own.ceiling_V, rtol=1e-4)
    assert opened(own, noise_ceiling=None).voxels()["ncsnr"].null_count == 45
    with pytest.raises(DataError, match=r"goes up to 8\d.*, which is no fraction; set the option ceiling_unit"):
        opened(own, ceiling_unit="fraction")
    image = nibabel.load(own.ceiling)
    save(own.ceiling, np.asarray(image.dataobj) / 100)
    np.testing.assert_allclose(opened(own, ceiling_unit="fraction").voxels()["ncsnr"].to_numpy(), s, rtol=1e-4)
    with pytest.raises(DataError, match="which is no percent; set the option ceiling_unit"):
        opened(own)
    own.ceiling.unlink()
    assert any("Noiseceiling4rep_statmap.nii.gz is missing" in note for note in opened(own).notes())


def test_a_split_of_the_data_sets_own(planted: Planted, tmp_path: Path) -> None:
    """Trials of images in neither part go, and responses stay with their trials."""
    names = sorted(planted.pictures)
    split = write_split(tmp_path / "tau.json", names[3:20], [*names[20:], "an image nobody saw.jpg"])
    dataset = opened(planted, split=str(split))
    kept = ~np.isin(planted.names_T, names[:3])
    np.testing.assert_array_equal(responses(dataset), planted.responses_TV[kept])
    assert dataset.trials()["stimulus_id"].to_pylist() == planted.names_T[kept].tolist()
    assert dataset.trials()["trial"].to_pylist() == list(range(kept.sum()))
    table = dataset.stimuli().to_pydict()
    assert dict(zip(table["stimulus_id"], table["split"], strict=True)) == {
        name: "test" if name in names[20:] else "train" for name in names[3:]
    }
    assert any("3 of 30 images are in neither part of the split" in note for note in dataset.notes())
    assert dataset.about()["split"] == "tau.json" and dataset.about()["test_images"] == 10
    for content, words in (
        ("{}", "is no split of LAION-fMRI"),
        (json.dumps({"variants": [{"train_ids": names, "test_ids": names[:2]}]}), "2 images are for training and for testing"),
        (json.dumps({"variants": [{"train_ids": names, "test_ids": ["other.jpg"]}]}), "show no test image of this split"),
    ):
        split.write_text(content)
        with pytest.raises(DataError, match=words):
            opened(planted, split=str(split))


def test_without_a_split_a_share_is_held_out(planted: Planted) -> None:
    def tests(**options: Any) -> set[str]:
        table = opened(planted, **options).stimuli().to_pydict()
        return {name for name, split in zip(table["stimulus_id"], table["split"], strict=True) if split == "test"}

    assert tests(test_share=0.3) == tests(test_share=0.3, sessions=[1, 2]) != tests(test_share=0.3, seed=5)
    assert 0 < len(tests(test_share=0.3)) < 20 and len(opened(planted).trials()) == 120


def test_sessions_that_are_chosen(own: Planted) -> None:
    dataset = opened(own, sessions=[3, 1])
    np.testing.assert_array_equal(responses(dataset), own.responses_TV[own.session_T != 2])
    assert dataset.about()["sessions"] == "1, 3"
    own.betas(2).unlink()
    np.testing.assert_array_equal(responses(opened(own, sessions=[1, 3])), own.responses_TV[own.session_T != 2])
    with pytest.raises(DataError, match=r"session 2 is missing: no .*ses-02_task.* \(sessions on disk: 1, 3\); copy it, or list"):
        opened(own)


def test_surfaces_say_where_voxels_are_drawn(own: Planted) -> None:
    assert opened(own).geometry() is None
    assert any("no surface is drawn: missing in" in note and "lh.white" in note for note in opened(own).notes())
    hemi_V = (own.ijk_V3[:, 0] < 5).astype(int)
    vertex_V = np.random.default_rng(0).integers(0, 10242, 45)
    write_surfaces(own, vertex_V, hemi_V)
    dataset = opened(own)
    assert dataset.voxels()["vertex"].to_pylist() == vertex_V.tolist()
    assert dataset.voxels()["hemi"].to_pylist() == [("lh", "rh")[number] for number in hemi_V]
    geometry = dataset.geometry()
    assert geometry is not None and geometry.space == "fsaverage5"
    far = opened(own, mask="brain").voxels()["vertex"]
    assert 0 < far.null_count < len(far)
    (own.root / "derivatives/freesurfer/sub-01/surf/lh.pial").write_bytes(b"no surface")
    with pytest.raises(DataError, match=r"lh.pial is no readable FreeSurfer surface"):
        opened(own)


def test_preparation_gives_what_the_formula_gives(planted: Planted, tmp_path: Path) -> None:
    subject = SubjectConfig(name="sub-01", dataset="laion_fmri", path=str(planted.root), options={"test_share": 0.3})
    prepared = prepare_responses(RunFolder(str(tmp_path / "run")), subject)
    np.testing.assert_allclose(prepared.Y_SV, written_out(make_dataset(subject)), atol=1e-5)


def test_it_is_opened_by_name_and_pickles_small(planted: Planted) -> None:
    config = SubjectConfig(name="S1", dataset="laion_fmri", path=str(planted.root), options={"laion_subject": "sub-01"})
    dataset = make_dataset(config)
    data = pickle.dumps(dataset)
    again: SubjectDataset = pickle.loads(data)
    assert dataset.subject == "S1" and len(data) < 1500 and again.voxels().equals(dataset.voxels())
    assert again.fingerprint() == dataset.fingerprint()


def test_the_examples_options_fit_the_layout(planted: Planted) -> None:
    example = load_config(Path(__file__).parents[2] / "examples/laion_fmri.yaml").subjects[0]
    dataset = make_dataset(example.model_copy(update={"path": str(planted.root)}))
    assert len(dataset.voxels()) == (planted.region_V != "early").sum()


def test_the_fingerprint_is_of_content(planted: Planted, own: Planted) -> None:
    assert opened(own).fingerprint() == opened(planted).fingerprint()
    prints = [
        opened(own, **options).fingerprint()
        for options in ({}, {"mask": "face"}, {"seed": 1}, {"sessions": [1, 2]}, {"rois": []})
    ]
    changed = Planted(**{**vars(own), "responses_TV": own.responses_TV + (np.arange(45) == 3)})
    write_session(changed, 2)
    prints.append(opened(own).fingerprint())
    with h5py.File(own.stimuli("stimuli.h5"), "r+") as file:
        file["images"][4] = np.frombuffer(b"another", np.uint8)
    prints.append(opened(own).fingerprint())
    assert len(set(prints)) == 7


def truncate(path: Path) -> None:
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data)[: len(gzip.compress(data)) * 2 // 3])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def moved(path: Path) -> None:
    image = nibabel.load(path)
    affine = AFFINE.copy()
    affine[0, 3] += 4
    save(path, np.asarray(image.dataobj), affine)


def reordered(path: Path) -> None:
    save(path, np.moveaxis(np.asarray(nibabel.load(path).dataobj), 0, 1))


def one_volume_less(path: Path) -> None:
    save(path, np.asarray(nibabel.load(path).dataobj)[..., :-1])


SPOILT: dict[str, tuple[Callable[[Planted], object], str]] = {
    "other names": (
        lambda one: [
            one.betas(number).rename(one.session(number, "desc-singletrial_stat-effect_statmap.nii.gz")) for number in (1, 2, 3)
        ],
        r"no session of sub-01 has a file sub-01_ses-01_.*SingletrialBetas.*found there: sub-01_ses-01_task-images_desc-single",
    ),
    "no trials": (
        lambda one: one.trials(2).unlink(),
        r"ses-02_task-images_desc-SingletrialBetas_trials.tsv is missing in .*what each trial showed",
    ),
    "trials without labels": (
        lambda one: edit(one.trials(1), "label", "stimulus_id"),
        "lacks column 'label'; it has session, run, beta_index, stimulus_id",
    ),
    "trials counted from 1": (
        lambda one: edit(one.trials(1), "\t0\t", "\t40\t"),
        r"ses-01.*trials.tsv: beta_index must number the volumes 0 to 39, each once",
    ),
    "a volume less": (
        lambda one: one_volume_less(one.betas(3)),
        r"ses-03.*nii.gz has 39 trials, but its table of trials has 40 rows",
    ),
    "betas of another subject": (lambda one: moved(one.betas(2)), r"ses-02.*lies elsewhere than the first session"),
    "axes swapped": (lambda one: reordered(one.betas(2)), r"ses-02.*has shape \(13, 11, 9\)"),
    "no betas but a volume": (
        lambda one: save(one.betas(1), np.zeros(SHAPE[0], np.float32)),
        r"ses-01.*has shape \(11, 1, 1, 1\), wanted \(X, Y, Z, trials\)",
    ),
    "a region of another subject": (
        lambda one: moved(one.region("face", "FFA-1")),
        r"label-FFA-1_mask.nii.gz lies elsewhere: its affine is .* is it of another subject",
    ),
    "a region with its axes swapped": (
        lambda one: reordered(one.region("face", "FFA-1")),
        r"FFA-1_mask.nii.gz has shape \(13, 11, 9\), but sub-01_ses-01",
    ),
    "a region twice": (
        lambda one: shutil.copy(one.region("face", "FFA-1"), one.region("body", "FFA1")),
        r"region FFA1 is there more than once in .*: body/.*, face/.*keep one of them",
    ),
    "no masks": (
        lambda one: shutil.rmtree(one.root / "derivatives/rois"),
        r"no region 'laiongeneral': wanted files CATEGORY/sub-01_space.* nothing of the kind",
    ),
    "no pictures": (lambda one: one.stimuli("stimuli.h5").unlink(), "task-images_stimuli.h5 is missing in .*agreement"),
    "no list of pictures": (lambda one: one.stimuli("metadata.csv").unlink(), "task-images_metadata.csv is missing in"),
    "an image that is not listed": (
        lambda one: edit(one.stimuli("metadata.csv"), "unique_LAION_cluster_3_", "renamed_"),
        "trials name 1 images that .*metadata.csv does not have: unique_LAION_cluster_3_i1_p01.jpg",
    ),
    "an image listed twice": (
        lambda one: edit(one.stimuli("metadata.csv"), "unique_LAION_someone_elses", "unique_LAION_cluster_3_i1_p01"),
        "image_name must be unique, but unique_LAION_cluster_3_i1_p01.jpg is there more than once",
    ),
    "a list that is too long": (
        lambda one: one.stimuli("metadata.csv").write_text(one.stimuli("metadata.csv").read_text() + "more.jpg,,,,\n"),
        "has 32 rows, but the HDF5 file beside it has 31 pictures",
    ),
    "a truncated header": (
        lambda one: one.betas(1).write_bytes(one.betas(1).read_bytes()[:50]),
        r"ses-01.*nii.gz is no readable NIfTI",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_does_not_fit_is_named(own: Planted, how: str) -> None:
    spoil, words = SPOILT[how]
    spoil(own)
    with pytest.raises(DataError, match=words):
        opened(own)


def test_truncated_sessions_are_named_when_the_data_set_is_opened(own: Planted) -> None:
    truncate(own.betas(2))
    truncate(own.betas(3))
    with pytest.raises(DataError) as said:
        opened(own)
    lines = str(said.value).splitlines()
    assert len(lines) == 2 and all("of its 40 volumes could be read" in line for line in lines)
    assert "ses-02" in lines[0] and "ses-03" in lines[1]


def test_a_session_that_is_cut_later_is_named_when_it_is_read(own: Planted) -> None:
    dataset = opened(own)
    truncate(own.betas(2))
    with pytest.raises(DataError, match=r"ses-02.*nii.gz is truncated or damaged: \d+ of its 40 volumes could be read"):
        dataset.read_session(2)


def test_another_releases_names_are_options(own: Planted) -> None:
    for number in (1, 2, 3):
        own.betas(number).rename(own.session(number, "desc-singletrial_stat-effect_statmap.nii.gz"))
        edit(own.trials(number), "label", "stimulus_id")
        own.trials(number).rename(own.session(number, "desc-GLMsingle_events.tsv"))
    (own.root / "derivatives/rois").rename(own.root / "derivatives/atlases")
    with h5py.File(own.stimuli("stimuli.h5"), "r+") as file:
        file.move("images", "jpegs")
    names = {
        "betas": "task-images_desc-singletrial_stat-effect_statmap.nii.gz",
        "trials": "task-images_desc-GLMsingle_events.tsv",
    }
    dataset = opened(own, **names, label="stimulus_id", regions_folder="derivatives/atlases", images_key="jpegs")
    np.testing.assert_array_equal(responses(dataset), own.responses_TV)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"laion_subject": "sub-02"}, "no subject 'sub-02' of LAION-fMRI at .*subjects there: sub-01"),
        ({"test_share": 0.0}, "test_share must be larger than 0"),
        ({"ceiling_unit": "percents"}, "no ceiling_unit 'percents'; known: percent, fraction"),
        ({"captions": "all"}, "no captions of 'all'; known: human, ai"),
        ({"sessions": []}, "at least one session"),
        ({"memory_mb": 0}, "memory_mb must be 1 or more"),
        ({"mask": "FFA1 PPA"}, "wanted names or files joined by"),
    ],
)
def test_options_that_cannot_be(planted: Planted, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        opened(planted, **options)
    with pytest.raises(
        DataError, match=r"no region 'FFA3' in .*; regions: EBA, EVC, FFA1, PPA, V1v, VWFA1, hV4, laiongeneral; folders: body"
    ):
        opened(planted, mask="FFA3")
