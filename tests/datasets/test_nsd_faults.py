"""Files of NSD that do not fit: the message names the file, what was found and what was wanted."""

from __future__ import annotations

import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from scuba_ray.datasets.nsd import NsdDataset
from scuba_ray.errors import ConfigError, DataError
from tests.datasets.nsd_files import AFFINE, SHAPE, Planted
from tests.datasets.nsd_reading import opened, replaced


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
    table.write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(DataError, match=r"floc-faces.mgz.ctab is no colour table"):
        opened(own)
    table.unlink()
    with pytest.raises(DataError, match=r"the names of floc-faces are missing: no floc-faces.mgz.ctab in"):
        opened(own)
    with pytest.raises(DataError, match=r"no regions 'streams': .* there is HCP_MMP1, floc-bodies"):
        opened(own, rois=["streams"])


def test_a_map_of_probabilities_holds_no_labels(own: Planted) -> None:
    for name in ("floc-faces", "lh.floc-faces"):
        image = nibabel.load(own.roi / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.9, AFFINE), own.roi / f"{name}.nii.gz")
    with pytest.raises(DataError, match=r"roi/floc-faces.nii.gz holds -0.9, wanted whole numbers"):
        opened(own)
    (own.roi / "floc-faces.nii.gz").unlink()
    with pytest.raises(DataError, match=r"roi/lh.floc-faces.nii.gz holds [\d.]+, wanted whole numbers"):
        opened(own)


def test_a_list_of_images_that_is_no_text(own: Planted) -> None:
    (own.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").write_bytes(b"nsdId,cocoId\n1,\xff\n")
    with pytest.raises(DataError, match=r"nsd_stim_info_merged.csv: wanted whole numbers in the columns nsdId and cocoId"):
        opened(own)


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
    with pytest.raises(DataError, match=r"nsd_stimuli.hdf5 is missing in .*/nsddata_stimuli/stimuli/nsd"):
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


def test_every_session_that_is_not_whole_is_named_before_anything_is_read(own: Planted) -> None:
    names = [f"betas_session{session:02d}.nii.gz" for session in (2, 3)]
    for name in names:
        path = own.betas / name
        path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError) as told:
        opened(own)
    lines = str(told.value).splitlines()
    assert len(lines) == 2 and all(f"{name} is truncated or damaged" in line for name, line in zip(names, lines, strict=True))
