"""The `algonauts2023` layout against files of the challenge's kind: what is planted comes back, what does not fit is named."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scuba_ray.config import SubjectConfig, load_config
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.algonauts import AlgonautsDataset
from scuba_ray.datasets.fsaverage import nearest_of_fsaverage5
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import SubjectDataset
from scuba_ray.tables.store import RunFolder
from tests.datasets.algonauts_files import VERTICES, Planted, labels_of, small_algonauts, write_ceilings
from tests.preparing import prepare_responses, written_out


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return small_algonauts(tmp_path_factory.mktemp("algonauts"))


@pytest.fixture
def own(planted: Planted, tmp_path: Path) -> Planted:
    """A copy that a test may spoil."""
    shutil.copytree(planted.root, tmp_path / "own")
    return Planted(**{**vars(planted), "root": tmp_path / "own"})


def opened(planted: Planted, **options: Any) -> AlgonautsDataset:
    return AlgonautsDataset("subj01", str(planted.root), **options)


def test_responses_are_the_left_hemispheres_then_the_rights(planted: Planted) -> None:
    dataset = opened(planted, test="test-split")
    np.testing.assert_array_equal(dataset.read_session(1), planted.responses_SV)
    voxels = dataset.voxels().to_pydict()
    assert voxels["hemi"] == [("lh", "rh")[number] for number in planted.hemi_V]
    assert voxels["voxel_id"] == (planted.vertex_V + VERTICES * planted.hemi_V).tolist()
    training = opened(planted)
    np.testing.assert_array_equal(training.read_session(1), planted.responses_SV[~planted.test_S])
    assert training.trials()["session"].unique().to_pylist() == [1]


def test_a_rows_picture_is_the_one_of_its_number(planted: Planted) -> None:
    """Fails for numbers that are taken to count from 0, and for names in another order than the rows."""
    dataset = opened(planted, test="test-split")
    stimuli = dataset.stimuli().to_pydict()
    assert stimuli["stimulus_id"] == [f"nsd-{image:05d}" for image in planted.image_S]
    assert stimuli["split"] == ["test" if test else "train" for test in planted.test_S]
    assert stimuli["uri"][0].startswith("training_split/training_images/train-0001_nsd-")
    for row in (0, 33, 65):
        picture = np.asarray(decode_image(dataset.images().read(stimuli["uri"][row])))
        np.testing.assert_array_equal(picture, planted.pictures_S[row])


def test_more_than_9999_pictures_stay_in_order(own: Planted) -> None:
    """Names sort as text, numbers do not."""
    folder = own.subject / "training_split/training_images"
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        number = int(name[6:10])
        (folder / name).rename(folder / f"train-{number:d}{name[10:]}")
    assert opened(own).stimuli()["stimulus_id"].to_pylist() == [f"nsd-{int(name[15:20]):05d}" for name in names]


def test_regions_have_the_names_of_the_tables_and_0_is_none(planted: Planted) -> None:
    found: dict[str, set[str]] = {}
    for region, names in zip(planted.region_V, opened(planted).voxels()["rois"].to_pylist(), strict=True):
        found.setdefault(region, set()).update(names)
    assert found["faces"] == {"floc-faces", "OFA", "FFA-1", "FFA-2"} and found["none"] == set()
    assert found["early"] == {"V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"} and "EBA" in found["bodies"]
    streams = opened(planted, rois=["streams"]).voxels()["rois"].to_pylist()
    assert streams == [["ventral"]] * len(planted.region_V)
    assert opened(planted, rois=[]).voxels()["rois"].to_pylist() == [[]] * len(planted.region_V)


def test_masks(planted: Planted, tmp_path: Path) -> None:
    def columns(mask: str) -> np.ndarray:
        dataset = opened(planted, mask=mask)
        ids = dataset.voxels()["voxel_id"].to_pylist()
        everything = (planted.vertex_V + VERTICES * planted.hemi_V).tolist()
        where = np.array([everything.index(one) for one in ids])
        np.testing.assert_array_equal(dataset.read_session(1), planted.responses_SV[~planted.test_S][:, where])
        return where

    faces, early = np.flatnonzero(planted.region_V == "faces"), np.flatnonzero(planted.region_V == "early")
    np.testing.assert_array_equal(columns("floc-faces"), faces)
    assert set(columns("all - prf-visualrois")) == set(range(41)) - set(early)
    some = np.isin(labels_of("prf-visualrois", planted.region_V), [1, 2]) | (labels_of("floc-faces", planted.region_V) == 1)
    np.testing.assert_array_equal(columns("prf-visualrois:V1v,V1d + floc-faces:OFA"), np.flatnonzero(some))
    mine = np.arange(41) % 10 == 3
    np.save(tmp_path / "mine.npy", mine)
    np.testing.assert_array_equal(columns(str(tmp_path / "mine.npy")), np.flatnonzero(mine))


def test_vertices_are_drawn_at_the_nearest_of_fsaverage5(planted: Planted) -> None:
    dataset = opened(planted)
    wanted = [
        nearest_of_fsaverage5(("lh", "rh")[hemi])[vertex] for vertex, hemi in zip(planted.vertex_V, planted.hemi_V, strict=True)
    ]
    assert dataset.voxels()["vertex"].to_pylist() == wanted
    geometry = dataset.geometry()
    assert geometry is not None and geometry.space == "fsaverage5"


def test_the_share_held_out_is_the_same_for_all_who_saw_an_image(planted: Planted) -> None:
    def tests(**options: Any) -> set[str]:
        table = opened(planted, **options).stimuli().to_pydict()
        return {name for name, split in zip(table["stimulus_id"], table["split"], strict=True) if split == "test"}

    assert tests() == tests() != tests(seed=1) and 0 < len(tests()) < 15
    assert tests(test_share=0.2) > tests() and len(tests(test_share=0.2) - tests()) >= 2
    prints = {
        opened(planted, **options).fingerprint() for options in ({}, {"seed": 1}, {"test_share": 0.5}, {"test": "test-split"})
    }
    assert len(prints) == 4
    assert opened(planted).about()["test_share"] == 0.1 and "test_share" not in opened(planted, test="test-split").about()


def test_noise_ceilings_come_out_as_they_went_in(own: Planted, tmp_path: Path) -> None:
    assert any("no noise ceilings" in note for note in opened(own).notes())
    assert opened(own).voxels()["ncsnr"].null_count == 41
    ceiling_V = np.random.default_rng(1).uniform(0, 0.9, 41)
    write_ceilings(own, ceiling_V)
    ncsnr = opened(own).voxels()["ncsnr"].to_numpy()
    np.testing.assert_allclose(ncsnr**2 / (ncsnr**2 + 1), ceiling_V, rtol=1e-5)
    write_ceilings(own, ceiling_V * 100)
    with pytest.raises(DataError, match=r"lh_noise_ceiling.npy has shape .* wanted \(\d+,\), a share of variance"):
        opened(own)


def test_captions_come_from_coco(own: Planted, tmp_path: Path) -> None:
    image = int(own.image_S[~own.test_S][5])
    (tmp_path / "list.csv").write_text(f",cocoId,nsdId\n0,77,{image}\n")
    (tmp_path / "captions_val2017.json").write_text('{"annotations": [{"id": 3, "image_id": 77, "caption": " a  dog. "}]}')
    dataset = opened(own, captions=str(tmp_path), coco_list=str(tmp_path / "list.csv"))
    assert [said for said in dataset.stimuli()["caption"].to_pylist() if said] == ["a dog."]
    assert dataset.stimuli()["caption"][5].as_py() == "a dog."
    with pytest.raises(ConfigError, match="captions need both options"):
        opened(own, captions=str(tmp_path))


def test_it_is_opened_by_name_and_pickles_small(planted: Planted) -> None:
    options = {"challenge_subject": "subj01", "mask": "floc-faces"}
    dataset = make_dataset(SubjectConfig(name="S1", dataset="algonauts2023", path=str(planted.root), options=options))
    data = pickle.dumps(dataset)
    again: SubjectDataset = pickle.loads(data)
    assert dataset.subject == "S1" and len(data) < 1500 and again.voxels().equals(dataset.voxels())
    assert again.fingerprint() == dataset.fingerprint()


def test_the_examples_options_fit_the_layout(planted: Planted) -> None:
    example = load_config(Path(__file__).parents[2] / "examples/algonauts.yaml").subjects[0]
    dataset = make_dataset(example.model_copy(update={"path": str(planted.root)}))
    assert len(dataset.voxels()) == (planted.region_V != "early").sum()


def test_the_fingerprint_is_of_content(planted: Planted, own: Planted) -> None:
    assert opened(own).fingerprint() == opened(planted).fingerprint()
    prints = [opened(own, **options).fingerprint() for options in ({}, {"mask": "floc-faces"}, {"rois": ["streams"]})]
    responses = np.load(own.fmri("rh"))
    responses[3, 4] += 1
    np.save(own.fmri("rh"), responses)
    prints.append(opened(own).fingerprint())
    np.save(own.roi("mapping_floc-faces"), {0: "Unknown", 1: "OFA", 2: "pFus", 3: "mFus"})  # type: ignore[arg-type]
    prints.append(opened(own).fingerprint())
    assert len(set(prints)) == 5


def test_preparation_gives_what_the_formula_gives(tmp_path: Path) -> None:
    """One session of averaged responses: standardised by its training images alone, no test image in it."""
    planted = small_algonauts(tmp_path / "challenge")
    subject = SubjectConfig(name="subj01", dataset="algonauts2023", path=str(planted.root), options={"test": "test-split"})
    prepared = prepare_responses(RunFolder(str(tmp_path / "run")), subject)
    np.testing.assert_allclose(prepared.Y_SV, written_out(make_dataset(subject)), atol=1e-6)
    training = planted.responses_SV[~planted.test_S].astype(float)
    wanted = (planted.responses_SV - training.mean(0)) / training.std(0)
    np.testing.assert_allclose(prepared.Y_SV, wanted, atol=1e-5)


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 40])


def drop_row(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


def swap(one: Path, other: Path) -> None:
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def second_of_an_image(planted: Planted) -> None:
    folder = planted.subject / "training_split/training_images"
    first, *_, last = sorted(folder.iterdir())
    last.rename(folder / f"{last.name[:15]}{first.name[15:]}")


def second_of_a_number(planted: Planted) -> None:
    folder = planted.subject / "training_split/training_images"
    last = max(folder.iterdir())
    last.rename(folder / f"train-0001{last.name[10:]}")


def other_labels(planted: Planted) -> None:
    path = planted.roi("lh.floc-faces_challenge_space")
    np.save(path, np.roll(np.load(path), 1))


def challenge_sized_but_swapped(planted: Planted) -> None:
    for hemi, count in (("lh", 20544), ("rh", 19004)):
        np.save(planted.roi(f"{hemi}.all-vertices_fsaverage_space"), (np.arange(VERTICES) < count).astype(np.int64))


SPOILT: dict[str, tuple[Callable[[Planted], object], str]] = {
    "truncated": (lambda one: truncate(one.fmri("lh")), "lh_training_fmri.npy is not a readable .npy array, or not whole"),
    "missing": (lambda one: one.fmri("rh").unlink(), "rh_training_fmri.npy is missing in .*training_fmri"),
    "a row too few": (
        lambda one: drop_row(one.fmri("rh")),
        r"rh_training_fmri.npy has shape \(59, \d+\), wanted \(60, \d+\).*are all pictures",
    ),
    "a picture too few": (
        lambda one: max((one.subject / "training_split/training_images").iterdir()).unlink(),
        r"lh_training_fmri.npy has shape \(60, \d+\), wanted \(59, \d+\): a row per picture",
    ),
    "a picture in the middle missing": (
        lambda one: sorted((one.subject / "training_split/training_images").iterdir())[7].unlink(),
        "must be numbered 1 to 59, a row of responses each, but number 8 is missing",
    ),
    "no pictures": (
        lambda one: shutil.rmtree(one.subject / "training_split/training_images"),
        "no pictures such as train-0001_nsd-00013.png in .*training_images",
    ),
    "an image twice": (second_of_an_image, r"NSD's image \d+ is there more than once \(train-0001_nsd-\d+.png, train-0060"),
    "a number twice": (second_of_a_number, "must be numbered 1 to 60, a row of responses each, but number 1 is there twice"),
    "axes swapped": (
        lambda one: np.save(one.fmri("lh"), np.load(one.fmri("lh")).T),
        "lh_training_fmri.npy has shape .*: its axes are swapped",
    ),
    "hemispheres swapped": (
        lambda one: swap(one.fmri("lh"), one.fmri("rh")),
        r"lh_training_fmri.npy has shape \(60, (\d+)\), wanted .*is it of the other hemisphere",
    ),
    "regions of the other hemisphere": (
        lambda one: swap(one.roi("lh.floc-faces_challenge_space"), one.roi("rh.floc-faces_challenge_space")),
        r"lh.floc-faces_challenge_space.npy has shape .* wanted .*of another subject or hemisphere",
    ),
    "regions of another subject": (
        lambda one: np.save(one.roi("rh.floc-words_challenge_space"), np.zeros(99, np.int64)),
        r"rh.floc-words_challenge_space.npy has shape \(99,\), wanted \(\d+,\): one value per column",
    ),
    "regions of another subject, as long": (
        other_labels,
        r"lh.floc-faces_fsaverage_space.npy and lh.floc-faces_challenge_space.npy differ at",
    ),
    "everything of the other hemisphere": (
        challenge_sized_but_swapped,
        r"hemispheres are swapped in .*roi_masks: lh.all-vertices_fsaverage_space.npy has 20544 vertices, rh.* 19004",
    ),
    "vertices of fsaverage5": (
        lambda one: np.save(one.roi("lh.all-vertices_fsaverage_space"), np.zeros(10242, np.int64)),
        r"lh.all-vertices_fsaverage_space.npy has shape \(10242,\), wanted \(163842,\): one value per vertex of fsaverage",
    ),
    "a label without a name": (
        lambda one: np.save(one.roi("mapping_floc-faces"), {0: "Unknown", 1: "OFA"}),  # type: ignore[arg-type]
        "floc-faces_challenge_space.npy has a label 2 that mapping_floc-faces.npy does not name; it names",
    ),
    "whole numbers": (
        lambda one: np.save(one.fmri("lh"), np.load(one.fmri("lh")).astype(np.int16)),
        "holds int16, wanted float32",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_does_not_fit_is_named(own: Planted, how: str) -> None:
    spoil, words = SPOILT[how]
    spoil(own)
    with pytest.raises(DataError, match=words):
        opened(own)


def test_a_missing_table_of_names_is_asked_for(own: Planted) -> None:
    own.roi("mapping_floc-faces").unlink()
    assert "FFA-1" not in str(opened(own).voxels()["rois"].to_pylist())
    for options in ({"rois": ["floc-faces"]}, {"mask": "floc-faces"}):
        with pytest.raises(
            DataError, match=r"no regions 'floc-faces': mapping_floc-faces.npy is missing in .*; there is floc-bodies, "
        ):
            opened(own, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test": "shared1000"}, "no test 'shared1000'; known: share, test-split"),
        ({"test_share": 1.0}, "test_share must be larger than 0 and smaller than 1, got 1.0"),
        ({"challenge_subject": "subj02"}, r"no subject of Algonauts 2023 at .*subj02.*subjects there: subj01"),
        ({"mask": "floc-faces floc-places"}, "wanted names or files joined by"),
        ({"mask": "floc-faces:FFA"}, "floc-faces has no label 'FFA'; it has OFA, FFA-1, FFA-2"),
    ],
)
def test_options_that_cannot_be(planted: Planted, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        opened(planted, **options)


def test_a_part_of_a_subject_is_told(planted: Planted) -> None:
    assert any("60 training images here, 9841 in the challenge" in note for note in opened(planted).notes())
