"""The `nsd` layout against files written in NSD's own way: what is planted comes back."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.fsaverage import VERTICES
from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import ConfigError, DataError
from tests.datasets.nsd_files import AFFINE, DONE, SHAPE, Planted, write_betas, write_mgz
from tests.datasets.nsd_reading import HALF_A_STEP, opened, responses


@pytest.mark.parametrize("kind", ["nifti", "hdf5"])
def test_betas_come_back_in_percent_and_in_place(nsd: Planted, kind: str) -> None:
    """Fails for a scale that is forgotten or applied twice, axes in another order, and sessions or trials out of order."""
    dataset = opened(nsd, format=kind)
    got, order = responses(dataset), nsd.order()
    assert got.dtype == np.float32 and got.shape == nsd.responses_TV.shape
    np.testing.assert_allclose(got, nsd.responses_TV[:, order], atol=HALF_A_STEP)
    places = np.stack([dataset.voxels()[name].to_numpy() for name in "ijk"], axis=1)
    np.testing.assert_array_equal(places, nsd.ijk_V3[order])
    assert dataset.trials()["session"].to_pylist() == nsd.session_T.tolist()


def test_a_small_buffer_changes_nothing(nsd: Planted) -> None:
    one = opened(nsd, format="nifti", memory_mb=1)
    one._memory = 3 * 2 * int(np.prod(SHAPE)) + 5
    np.testing.assert_array_equal(one.read_session(2), opened(nsd, format="nifti").read_session(2))
    np.testing.assert_array_equal(one.read_session(2), opened(nsd, format="hdf5").read_session(2))


def test_trials_name_the_pictures_that_were_shown(nsd: Planted) -> None:
    """Fails for an index that is off by one: picture, stimulus and trial must be the same thing."""
    dataset = opened(nsd)
    stimuli = {row["stimulus_id"]: row for row in dataset.stimuli().to_pylist()}
    shown = [int(stimuli[name]["uri"]) for name in dataset.trials()["stimulus_id"].to_pylist()]
    np.testing.assert_array_equal(shown, nsd.image_S[nsd.stimulus_T])
    with h5py.File(nsd.stimuli, "r", locking=False) as file:
        for stimulus in (0, 7, 39):
            image = nsd.image_S[stimulus]
            row = stimuli[f"nsd-{image:05d}"]
            np.testing.assert_array_equal(np.asarray(decode_image(dataset.images().read(row["uri"]))), file["imgBrick"][image])
            assert row["coco_id"] == image + 500


def test_both_test_sets_and_what_is_left_for_training(nsd: Planted) -> None:
    shared = {f"nsd-{image:05d}" for image in nsd.image_S[:8]}
    seen_by_all = {f"nsd-{nsd.image_S[stimulus]:05d}" for stimulus in nsd.stimulus_T[nsd.session_T <= min(DONE)] if stimulus < 8}
    assert 0 < len(seen_by_all) < len(shared)
    for test, wanted in (("shared1000", shared), ("common-to-all", seen_by_all)):
        dataset = opened(nsd, test=test)
        table = dataset.stimuli().to_pydict()
        assert {name for name, split in zip(table["stimulus_id"], table["split"], strict=True) if split == "test"} == wanted
        assert (
            len(table["stimulus_id"]) == 40 and dataset.about()["test"] == test and dataset.about()["test_images"] == len(wanted)
        )
    assert opened(nsd, test="shared1000").fingerprint() != opened(nsd).fingerprint()


def test_voxels_have_hemispheres_regions_vertices_and_ncsnr(nsd: Planted) -> None:
    dataset = opened(nsd)
    order, table = nsd.order(), dataset.voxels().to_pydict()
    assert table["hemi"] == [("lh", "rh")[number] for number in nsd.hemi_V[order]]
    assert table["vertex"] == nsd.vertex_V[order].tolist() and max(table["vertex"]) < FSAVERAGE5_VERTICES
    np.testing.assert_allclose(table["ncsnr"], nsd.ncsnr_V[order])
    np.testing.assert_allclose(table["xyz"], nsd.ijk_V3[order] @ AFFINE[:3, :3] + AFFINE[:3, 3], atol=1e-4)
    assert all((x < 0) == (hemi == "lh") for (x, _, _), hemi in zip(table["xyz"], table["hemi"], strict=True))
    rois = {region: set() for region in set(nsd.region_V)}
    for region, names in zip(nsd.region_V[order], table["rois"], strict=True):
        rois[region] |= set(names)
    assert rois["faces"] == {"floc-faces", "OFA", "FFA-1", "FFA-2"} and rois["food"] == {"food"} and rois["objects"] == set()
    geometry = dataset.geometry()
    assert geometry is not None and geometry.space == "fsaverage5" and dataset.notes() == []


def test_a_category_asks_for_t_and_a_single_region_does_not(nsd: Planted) -> None:
    def faces(**options: Any) -> tuple[int, int]:
        rois = opened(nsd, **options).voxels()["rois"].to_pylist()
        return sum("floc-faces" in names for names in rois), sum(bool({"OFA", "FFA-1", "FFA-2"} & set(names)) for names in rois)

    assert faces() == (7, 8) and faces(floc_threshold=None) == (8, 8) and faces(floc_threshold=8.0) == (0, 8)


def test_masks(nsd: Planted, tmp_path: Path) -> None:
    def voxels(mask: str) -> set[int]:
        return set(opened(nsd, mask=mask).voxels()["voxel_id"].to_pylist())

    everything, planted = voxels("nsdgeneral"), set(np.ravel_multi_index(tuple(nsd.ijk_V3.T), SHAPE).tolist())
    assert voxels("higher-visual") == planted < everything and len(everything) == 48 + 14
    assert voxels("nsdgeneral - prf-visualrois") == planted and voxels("nsdgeneral & prf-visualrois") == everything - planted
    assert len(voxels("floc-faces + floc-places")) == 16 and len(voxels("prf-visualrois:V1v,hV4")) == 4
    mine = np.zeros(SHAPE)
    mine[3, 4, 5] = mine[9, 0, 8] = 1
    np.save(tmp_path / "mine.npy", mine)
    assert voxels(str(tmp_path / "mine.npy")) == set(np.flatnonzero(mine.ravel()).tolist())
    nibabel.save(nibabel.Nifti1Image(mine, AFFINE), tmp_path / "mine.nii.gz")
    assert voxels(f"floc-faces + {tmp_path / 'mine.nii.gz'} - floc-faces") <= set(np.flatnonzero(mine.ravel()).tolist())
    shutil.copy(tmp_path / "mine.nii.gz", tmp_path / "my mask.nii.gz")
    assert voxels(str(tmp_path / "my mask.nii.gz")) == set(np.flatnonzero(mine.ravel()).tolist())
    assert voxels(f"prf-visualrois + {tmp_path / 'mine.nii.gz'}") >= set(np.flatnonzero(mine.ravel()).tolist()) | (
        everything - planted
    )
    names = opened(nsd, mask="nsdgeneral", rois=["prf-visualrois", "nsdgeneral", "HCP_MMP1"]).voxels()["rois"].to_pylist()
    assert {name for here in names for name in here} >= {"V1v", "hV4", "nsdgeneral", "FFC", "V1"} and all(
        "nsdgeneral" in here for here in names
    )


def test_the_most_reliable_areas_by_ncsnr(nsd: Planted) -> None:
    ceiling = nsd.ncsnr_V.astype(float) ** 2 / (nsd.ncsnr_V.astype(float) ** 2 + 1 / 3)
    best = max(set(nsd.region_V), key=lambda region: ceiling[nsd.region_V == region].mean())
    wanted = nsd.ijk_V3[nsd.region_V == best]
    got = opened(nsd, mask="hcp-reliable:1").voxels()["voxel_id"].to_pylist()
    assert set(got) == set(np.ravel_multi_index(tuple(wanted.T), SHAPE).tolist())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": "floc-faces +"}, "wanted names or files joined by"),
        ({"mask": "floc-faces floc-places"}, "wanted names or files joined by"),
        ({"mask": "floc-faces:FFA"}, "has no label 'FFA'; it has OFA, FFA-1, FFA-2"),
        ({"mask": "hcp-reliable:all"}, "hcp-reliable:45"),
        ({"space": "func2mm"}, "known: func1pt8mm, func1mm, fsaverage"),
        ({"test": "shared"}, "known: common-to-all, shared1000"),
        ({"nsd_subject": "subj09"}, "subj01 to subj08, got 'subj09'"),
        ({"sessions": [1, 5]}, "sessions of NSD are 1 to 4"),
        ({"sessions": []}, "at least one session"),
        ({"sessions_done": None}, "8 numbers, one per subject, of 1 to 4"),
        ({"memory_mb": 0}, "memory_mb must be 1 or more"),
    ],
)
def test_options_that_cannot_be(nsd: Planted, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        opened(nsd, **options)


def test_it_is_opened_by_name_and_pickles_small(nsd: Planted) -> None:
    options = {"nsd_subject": "subj01", "sessions_done": DONE, "sessions": [1, 2, 3, 4], "mask": "nsdgeneral"}
    config = SubjectConfig(name="S1", dataset="nsd", path=str(nsd.root), options=options)
    dataset = make_dataset(config)
    data = pickle.dumps(dataset)
    assert dataset.subject == "S1" and len(data) < 1500
    again = pickle.loads(data)
    assert again.voxels().equals(dataset.voxels()) and again.fingerprint() == dataset.fingerprint()
    with pytest.raises(ConfigError, match="has no option 'roi'; its options: nsd_subject, space"):
        make_dataset(config.model_copy(update={"options": {"roi": 1}}))


def test_the_fingerprint_is_of_content(nsd: Planted, own: Planted) -> None:
    shutil.rmtree(own.root)
    shutil.copytree(nsd.root, own.root)
    assert opened(own).fingerprint() == opened(nsd).fingerprint()
    fingerprints = [opened(own, **options).fingerprint() for options in ({}, {"mask": "nsdgeneral"}, {"sessions": [1, 2, 3]})]
    write_mgz(own.root / "nsddata/ppdata/subj01/transforms/lh.white-to-fsaverage.mgz", np.ones(VERTICES))
    fingerprints.append(opened(own).fingerprint())
    with h5py.File(own.betas / "betas_session03.hdf5", "r+") as file:
        file["betas"][0, 0, 0, 0] += 1
    fingerprints.append(opened(own).fingerprint())
    assert len(set(fingerprints)) == 5


def test_the_fingerprint_is_the_same_in_every_process(nsd: Planted, tmp_path: Path) -> None:
    """A mask file says nothing of hemispheres: they come from whichever atlas is asked first."""
    inside = np.zeros(SHAPE, bool)
    inside[tuple(nsd.ijk_V3.T)] = True
    np.save(tmp_path / "mask.npy", inside)
    say = "from scuba_ray.datasets.nsd import NsdDataset as N; import sys; print(N(*sys.argv[1:3], mask=sys.argv[3], "
    command = [sys.executable, "-c", f"{say}rois=[], sessions_done={DONE}).fingerprint())"]
    command += ["subj01", str(nsd.root), str(tmp_path / "mask.npy")]
    processes = [
        subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE) for seed in ("0", "3")
    ]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0, 0]


def test_without_ncsnr_transforms_t_maps_and_atlas(own: Planted) -> None:
    (own.betas / "ncsnr.nii.gz").unlink()
    shutil.rmtree(own.root / "nsddata/ppdata/subj01/transforms")
    (own.roi.parent / "floc_facestval.nii.gz").unlink()
    for path in own.roi.glob("*food*"):
        path.unlink()
    (own.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").unlink()
    dataset = opened(own)
    voxels, notes = dataset.voxels(), " | ".join(dataset.notes())
    assert voxels["ncsnr"].null_count == voxels["vertex"].null_count == len(voxels) and dataset.geometry() is None
    assert set(voxels["hemi"].to_pylist()) == {"lh", "rh"}
    names = {name for here in voxels["rois"].to_pylist() for name in here}
    assert "floc-faces" not in names and {"OFA", "floc-places"} <= names
    for words in (
        "no ncsnr in",
        "missing nsddata/ppdata/subj01/transforms/lh.white-to-fsaverage.mgz",
        "no category floc-faces",
        "no food regions",
        "without the 45 most reliable HCP areas: ncsnr missing",
        "no COCO ids",
    ):
        assert words in notes
    assert dataset.stimuli()["coco_id"].null_count == 40 and dataset.read_session(1).shape == (30, len(voxels))


def test_a_last_session_that_is_not_there_yet_is_told(own: Planted) -> None:
    (own.betas / "betas_session04.nii.gz").unlink()
    dataset = opened(own)
    assert any("sessions 1-3 of the 4 that subj01 did are on disk" in note for note in dataset.notes())
    assert len(dataset.trials()) == 90 and f"nsd-{own.image_S[0]:05d}" not in dataset.stimuli()["stimulus_id"].to_pylist()


def test_a_hole_among_the_sessions_is_an_error_unless_it_is_meant(own: Planted) -> None:
    (own.betas / "betas_session02.nii.gz").unlink()
    with pytest.raises(DataError, match=r"session 2 is missing: no betas_session02.nii.gz in .*sessions on disk: 1, 3-4"):
        opened(own)
    dataset = opened(own, sessions=[1, 3, 4])
    np.testing.assert_allclose(responses(dataset), own.responses_TV[own.session_T != 2][:, own.order()], atol=HALF_A_STEP)
    with pytest.raises(DataError, match="session 2 is missing"):
        opened(own, sessions=[1, 2])


def test_captions_come_from_coco(own: Planted, tmp_path: Path) -> None:
    rows = [
        {"image_id": int(image) + 500, "id": 2 * int(image) + turn, "caption": f" picture {image},\n version {turn} "}
        for turn in (1, 0)
        for image in own.image_S
    ]
    (tmp_path / "captions_train2017.json").write_text(json.dumps({"annotations": rows[:60]}))
    (tmp_path / "captions_val2017.json").write_text(json.dumps({"annotations": rows[60:]}))
    stimuli = opened(own, captions=str(tmp_path)).stimuli().to_pylist()
    assert all(row["caption"] == f"picture {row['uri']}, version 0" for row in stimuli)
    assert opened(own, captions="..").stimuli().to_pylist() == stimuli  # from NSD's root, whatever the current folder
    with pytest.raises(DataError, match=r"no captions_\*.json in"):
        opened(own, captions=str(own.root))


def test_a_session_written_again_by_the_generator_is_nsds_own(own: Planted) -> None:
    """The generator's own promises: int16, X Y Z T, times 300, no scale in the header."""
    write_betas(own.betas, 1, np.full((*SHAPE, 3), 1.5, np.float32), ("nifti",))
    image = nibabel.load(own.betas / "betas_session01.nii.gz")
    assert (
        image.get_data_dtype() == np.int16 and np.isnan(image.header["scl_slope"]) and (np.asanyarray(image.dataobj) == 450).all()
    )


def test_tables_have_the_types_of_the_protocol(nsd: Planted) -> None:
    dataset = opened(nsd)
    assert dataset.trials().schema.types == [pa.int64(), pa.string(), pa.int32()]
    assert dataset.voxels().schema.field("rois").type == pa.list_(pa.string())
