"""The `nsd` layout against files written in NSD's own way: what is planted comes back, and what does not fit is named."""

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
import pyarrow as pa
import pytest
import scipy.io

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES
from scuba_ray.datasets.nsd import NsdDataset
from scuba_ray.datasets.nsd_design import read_design
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import ConfigError, DataError
from tests.datasets.nsd_files import AFFINE, DONE, SHAPE, Planted, small_nsd, write_betas, write_mgz, write_surface

HALF_A_STEP = 0.5 / 300 + 1e-6
"""What int16 loses."""


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return small_nsd(tmp_path_factory.mktemp("nsd"), ("nifti", "hdf5"))


@pytest.fixture
def own(nsd: Planted, tmp_path: Path) -> Planted:
    """A copy that a test may spoil, NIfTI only."""
    shutil.copytree(nsd.root, tmp_path / "own")
    copy = Planted(**{**vars(nsd), "root": tmp_path / "own"})
    for path in copy.betas.glob("*.hdf5"):
        path.unlink()
    return copy


def opened(planted: Planted, **options: Any) -> NsdDataset:
    return NsdDataset("subj01", str(planted.root), **{"sessions_done": DONE, **options})


def responses(dataset: NsdDataset) -> np.ndarray:
    sessions = sorted(set(dataset.trials()["session"].to_pylist()))
    return np.concatenate([dataset.read_session(session) for session in sessions])


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
    write_mgz(own.root / "nsddata/ppdata/subj01/transforms/lh.white-to-fsaverage.mgz", np.ones(FSAVERAGE5_VERTICES))
    fingerprints.append(opened(own).fingerprint())
    with h5py.File(own.betas / "betas_session03.hdf5", "r+") as file:
        file["betas"][0, 0, 0, 0] += 1
    fingerprints.append(opened(own).fingerprint())
    assert len(set(fingerprints)) == 5


# what may be missing, and is told


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


# other ways of storing the same numbers


def replaced(planted: Planted, session: int, change: Callable[[np.ndarray], np.ndarray], slope: float | None = None) -> Path:
    """Rewrite a session's file from its stored values (X, Y, Z, T)."""
    path = planted.betas / f"betas_session{session:02d}.nii.gz"
    image = nibabel.Nifti1Image(change(np.asanyarray(nibabel.load(path).dataobj)), AFFINE)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)
    return path


def test_floating_point_betas_are_percent_already(own: Planted) -> None:
    for session in range(1, 5):
        replaced(own, session, lambda stored: (stored / 300).astype(np.float32))
    dataset = opened(own)
    np.testing.assert_allclose(responses(dataset), own.responses_TV[:, own.order()], atol=HALF_A_STEP)
    assert any("stored as float32 are taken as percent signal change, not divided by 300" in note for note in dataset.notes())


def test_floating_point_betas_that_were_never_divided_are_refused(own: Planted) -> None:
    path = replaced(own, 2, lambda stored: stored.astype(np.float32))
    with pytest.raises(DataError, match=f"{path.name} holds floating-point numbers that are whole .* never divided by 300"):
        opened(own).read_session(2)


def test_a_scale_in_the_header_is_not_applied_twice(own: Planted) -> None:
    path = own.betas / "betas_session01.nii.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[112:116], raw[116:120] = np.float32(1 / 300).tobytes(), np.float32(0).tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(bytes(raw)))
    dataset = opened(own)
    np.testing.assert_allclose(responses(dataset), own.responses_TV[:, own.order()], atol=HALF_A_STEP)
    assert any("multiplied by the header's scale" in note for note in dataset.notes())


def test_hdf5_in_other_chunks_and_matlab_7_3(own: Planted) -> None:
    for session in range(1, 5):
        stored = np.asanyarray(nibabel.load(own.betas / f"betas_session{session:02d}.nii.gz").dataobj)
        with h5py.File(own.betas / f"betas_session{session:02d}.hdf5", "w") as file:
            file.create_dataset("betas", data=stored.T, chunks=(1, *stored.T.shape[1:]))
    np.testing.assert_allclose(responses(opened(own, format="hdf5")), own.responses_TV[:, own.order()], atol=HALF_A_STEP)
    before = read_design(own.design)
    variables = {name: value for name, value in scipy.io.loadmat(own.design).items() if not name.startswith("__")}
    with h5py.File(own.design, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file[name] = value.T
    after = read_design(own.design)
    np.testing.assert_array_equal(after.image_SI, before.image_SI)
    np.testing.assert_array_equal(after.order_T, before.order_T)
    assert after.shared == before.shared and after.trials_N.tolist() == before.trials_N.tolist() == [30] * 4


# files that do not fit


def test_a_truncated_session_is_named_with_how_far_it_goes(own: Planted) -> None:
    path = own.betas / "betas_session03.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"betas_session03.nii.gz is truncated or damaged: \d+ of its 30 volumes"):
        opened(own).read_session(3)


def test_a_damaged_byte_and_another_file_are_found(own: Planted) -> None:
    path = own.betas / "betas_session01.nii.gz"
    whole = gzip.decompress(path.read_bytes())
    packed = bytearray(gzip.compress(whole, compresslevel=0))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"betas_session01.nii.gz is truncated or damaged"):
        opened(own).read_session(1)
    path.write_bytes(b"not a file of any kind")
    with pytest.raises(DataError, match=r"betas_session01.nii.gz is no readable NIfTI"):
        opened(own)


def test_truncated_hdf5(nsd: Planted, tmp_path: Path) -> None:
    shutil.copytree(nsd.root, tmp_path / "own")
    own = Planted(**{**vars(nsd), "root": tmp_path / "own"})
    path = own.betas / "betas_session02.hdf5"
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=r"betas_session02.hdf5 is no readable HDF5 file, or not whole"):
        opened(own)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stored: stored[..., :29], r"session02.nii.gz has 29 trials, but nsd_expdesign.mat shows 30 images in session 2"),
        (lambda stored: stored.swapaxes(0, 2), r"session02.nii.gz has shape \(9, 12, 10\), but the first session of subj01 has"),
        (lambda stored: stored[..., 0], r"betas_session02.nii.gz has shape \(10, 12, 9, 1\), wanted \(X, Y, Z, trials\)"),
    ],
)  # fmt: skip
def test_a_session_of_another_shape(own: Planted, change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    replaced(own, 2, change)
    with pytest.raises(DataError, match=words):
        opened(own)


def test_hdf5_with_its_axes_the_other_way_round(own: Planted) -> None:
    for session in range(1, 5):
        stored = np.asanyarray(nibabel.load(own.betas / f"betas_session{session:02d}.nii.gz").dataobj)
        with h5py.File(own.betas / f"betas_session{session:02d}.hdf5", "w") as file:
            file["betas"] = stored
    with pytest.raises(DataError, match=r"betas_session01.hdf5 has 10 trials, but nsd_expdesign.mat shows 30"):
        opened(own)
    for path in own.betas.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            stored = np.moveaxis(file["betas"][()], -1, 0)
            del file["betas"]
            file["betas"] = stored  # (T, X, Y, Z)
    with pytest.raises(DataError, match=r"has shape \(10, 12, 9\), but betas_session01.hdf5 of subj01 has \(9, 12, 10\)"):
        opened(own)


def test_regions_of_another_subject_and_swapped_hemispheres(own: Planted) -> None:
    left, right = (own.roi / f"{hemi}.floc-faces.nii.gz" for hemi in ("lh", "rh"))
    keep = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(keep)
    with pytest.raises(DataError, match=r"hemispheres are swapped in .*roi: lh.floc-faces.nii.gz lies at x = \d+ mm"):
        opened(own)
    nibabel.save(nibabel.Nifti1Image(np.zeros((11, 12, 9), np.float32), AFFINE), left)
    with pytest.raises(
        DataError, match=r"lh.floc-faces.nii.gz has shape \(11, 12, 9\), but betas_session01.nii.gz of subj01 has"
    ):
        opened(own)
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), np.diag([-1.8, 1.8, 1.8, 1])), left)
    with pytest.raises(
        DataError, match=r"lh.floc-faces.nii.gz: its axes run towards LAS, those of the other files of subj01 towards RAS"
    ):
        opened(own)


def test_names_that_are_missing(own: Planted) -> None:
    table = own.root / "nsddata/freesurfer/subj01/label/floc-faces.mgz.ctab"
    table.write_text("0 Unknown\n1 OFA 10 20 30 0\n2 FFA-1 1 2 3 0\n")
    with pytest.raises(DataError, match=r"floc-faces has a label 3 that floc-faces.mgz.ctab does not name"):
        opened(own)
    table.write_text("OFA 1\n")
    with pytest.raises(DataError, match="wanted lines of a number and a name, got 'OFA 1'"):
        opened(own)
    table.unlink()
    with pytest.raises(DataError, match=r"the names of floc-faces are missing: no floc-faces.mgz.ctab in"):
        opened(own)
    with pytest.raises(DataError, match=r"no regions 'streams': .* there is HCP_MMP1, floc-bodies"):
        opened(own, rois=["streams"])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("subjectim", lambda values: values - 1, "subjectim holds 0, but NSD counts from 1"),
        ("masterordering", lambda values: values.astype(int) - 1, "masterordering holds 0, but NSD counts from 1"),
        ("masterordering", lambda values: values + 5, "masterordering goes to 45, but subjectim has 40 columns"),
        ("masterordering", lambda values: values[:, :-1], "masterordering has 119 trials, but stimpattern shows 120 images"),
        ("masterordering", np.ones_like, "shows an image 120 times, NSD 3 times at most"),
        ("subjectim", lambda ids: np.where(ids == ids[0, 3], ids[0, 4], ids), r"subjectim of subject 1 has image \d+ twice"),
        ("sharedix", None, "no variable 'sharedix'"),
    ],
)  # fmt: skip
def test_designs_that_do_not_fit(own: Planted, name: str, change: Any, words: str) -> None:
    variables = {key: value for key, value in scipy.io.loadmat(own.design).items() if not key.startswith("__")}
    values = variables.pop(name)
    scipy.io.savemat(own.design, variables | ({} if change is None else {name: change(values)}))
    with pytest.raises(DataError, match=words):
        opened(own)


def test_stimuli_that_do_not_fit(own: Planted) -> None:
    with h5py.File(own.stimuli, "r+") as file:
        few = file["imgBrick"][:20]
        del file["imgBrick"]
        file["imgBrick"] = few
    with pytest.raises(DataError, match=r"nsd_stimuli.hdf5 has 20 pictures, but subj01 saw image \d+ \(from 0\)"):
        opened(own)
    with h5py.File(own.stimuli, "r+") as file:
        del file["imgBrick"]
        file["imgBrick"] = few.astype(np.float32)
    with pytest.raises(DataError, match="imgBrick is float32 of shape"):
        opened(own)
    own.stimuli.unlink()
    with pytest.raises(DataError, match=r"nsd_stimuli.hdf5 is missing in .*; NSD has it in nsddata_stimuli/stimuli/nsd"):
        opened(own)


def test_pictures_by_number(nsd: Planted) -> None:
    pictures = pickle.loads(pickle.dumps(opened(nsd).images()))
    assert pictures.fingerprint() == opened(nsd).images().fingerprint()
    for uri in ("-1", "999", "one", "../1"):
        with pytest.raises(DataError, match="has no picture"):
            pictures.read(uri)


def test_no_nsd_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no NSD at .*: it has no folder nsddata"):
        NsdDataset("subj01", str(tmp_path))
    for name in ("nsddata", "nsddata_betas"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"nsd_expdesign.mat is missing in .*; NSD has it in nsddata/experiments/nsd"):
        NsdDataset("subj01", str(tmp_path))


def test_no_betas(own: Planted) -> None:
    with pytest.raises(DataError, match=r"no betas in .*betas_assumehrf: wanted files such as betas_session01.nii.gz"):
        opened(own, betas="betas_assumehrf")


# fsaverage


@pytest.fixture
def surface(own: Planted) -> Planted:
    write_surface(own, range(1, 5))
    return own


def test_betas_on_fsaverage_are_not_divided(nsd: Planted, surface: Planted) -> None:
    dataset = opened(surface, space="fsaverage")
    voxels = dataset.voxels().to_pydict()
    hemi = np.array(voxels["hemi"]) == "rh"
    assert len(hemi) == 48 and voxels["voxel_id"] == [v + 200 * right for v, right in zip(voxels["vertex"], hemi, strict=True)]
    column = [np.flatnonzero(surface.hemi_V == right)[vertex // 2] for vertex, right in zip(voxels["vertex"], hemi, strict=True)]
    np.testing.assert_allclose(responses(dataset), surface.responses_TV[:, column], rtol=1e-6)
    np.testing.assert_allclose(voxels["ncsnr"], surface.ncsnr_V[column])
    assert voxels["i"] == [None] * 48
    in_volume = opened(nsd).voxels().to_pydict()
    volume = dict(zip(in_volume["voxel_id"], in_volume["rois"], strict=True))
    flat = np.ravel_multi_index(tuple(surface.ijk_V3.T), SHAPE)
    assert voxels["rois"] == [volume[flat[place]] for place in column]
    assert dataset.geometry() is None and any("no surface is drawn" in note for note in dataset.notes())


def test_surfaces_that_do_not_fit(surface: Planted) -> None:
    betas = surface.root / "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"
    label = surface.root / "nsddata/freesurfer/subj01/label"
    write_mgz(label / "lh.floc-faces.mgz", np.zeros(7))
    with pytest.raises(DataError, match=r"lh.floc-faces.mgz has 7 vertices, but hemisphere lh of subj01 has 25"):
        opened(surface, space="fsaverage")
    keep = (betas / "rh.betas_session02.mgh").read_bytes()
    (betas / "rh.betas_session02.mgh").unlink()
    with pytest.raises(DataError, match=r"session 2 is missing: no rh.betas_session02.mgh"):
        opened(surface, space="fsaverage")
    (betas / "rh.betas_session02.mgh").write_bytes(keep[:-5000])
    with pytest.raises(DataError, match=r"rh.betas_session02.mgh is truncated or damaged: \d+ of its 30 volumes"):
        opened(surface, space="fsaverage", mask="hcp-reliable:45", rois=["HCP_MMP1"]).read_session(2)


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
