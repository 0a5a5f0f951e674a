"""Betas as they may be stored: whole numbers or not, with a scale or without, in chunks, on fsaverage."""

from __future__ import annotations

import gzip

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from scuba_ray.datasets.nsd_design import read_design
from scuba_ray.errors import DataError
from tests.datasets.nsd_files import SHAPE, Planted, write_mgz, write_surface
from tests.datasets.nsd_reading import HALF_A_STEP, opened, replaced, responses


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
    with pytest.raises(DataError, match=r"rh.betas_session02.mgh is truncated or damaged: \d+ of its 30 volumes are there"):
        opened(surface, space="fsaverage", mask="hcp-reliable:45", rois=["HCP_MMP1"]).read_session(2)
