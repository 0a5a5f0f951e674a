"""Where a voxel is drawn: nearest vertex of fsaverage in the subject's volume, then nearest of fsaverage5 on the sphere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nibabel.freesurfer.io import write_geometry, write_morph_data

from scuba_ray.datasets.fsaverage import VERTICES, nearest_of_fsaverage5
from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, HEMISPHERES, surface
from scuba_ray.datasets.nsd_folder import NsdFolder
from scuba_ray.datasets.nsd_surface import fsaverage, vertices
from scuba_ray.errors import DataError
from tests.datasets.nsd_files import write_mgz


@pytest.fixture
def folder(tmp_path: Path) -> NsdFolder:
    """A left hemisphere whose own vertex n + 1 is fsaverage's n, on a line along x."""
    for name in ("nsddata", "nsddata_betas"):
        (tmp_path / name).mkdir()
    made = NsdFolder(tmp_path, 1, "func1pt8mm", "betas")
    # own vertex 0 lies outside of the volume; vertex n + 1 lies at x = 3 n (from 0), so at 3 n + 1 as NSD counts
    place = np.stack([3 * np.arange(-1, VERTICES) + 1, np.full(VERTICES + 1, 5), np.full(VERTICES + 1, 7)], axis=1)
    place[0] = 9999
    write_mgz(made.to_layer("lh"), place)
    write_mgz(made.to_white("lh"), np.arange(VERTICES) + 2)
    return made


def test_the_nearest_vertex_counted_from_0_and_its_parent_on_fsaverage5(folder: NsdFolder) -> None:
    finer = np.array([0, 17, 10_241, 10_242, 100_000, VERTICES - 1])
    ijk = np.stack([3 * finer + 1, np.full(6, 4), np.full(6, 6)], axis=1)  # a step from vertex n, two from vertex n + 1
    found = vertices(folder, ijk, np.zeros(6, np.int8))
    assert found[:3].tolist() == [0, 17, 10_241] and (found < FSAVERAGE5_VERTICES).all()
    np.testing.assert_array_equal(found, nearest_of_fsaverage5("lh")[finer])


def test_voxels_far_from_the_cortex_or_of_no_hemisphere_have_none(folder: NsdFolder) -> None:
    ijk = np.array([[3, 4, 6], [3, 4, 6], [3, 4, 9]])
    assert vertices(folder, ijk, np.array([0, -1, 0], np.int8)).tolist() == [1, -1, -1]


def test_files_that_do_not_fit_each_other(folder: NsdFolder) -> None:
    ijk, hemi = np.array([[3, 4, 6]]), np.zeros(1, np.int8)
    write_mgz(folder.to_layer("lh"), np.zeros((50, 3)))
    with pytest.raises(
        DataError, match=r"lh.func1pt8-to-layerB2.mgz has 50 vertices, but lh.white-to-fsaverage.mgz names vertex"
    ):
        vertices(folder, ijk, hemi)
    write_mgz(folder.to_layer("lh"), np.full((VERTICES + 1, 3), 9999))
    with pytest.raises(DataError, match=r"lh.func1pt8-to-layerB2.mgz puts every vertex of fsaverage outside of the volume"):
        vertices(folder, ijk, hemi)
    write_mgz(folder.to_layer("lh"), np.zeros(50))
    with pytest.raises(DataError, match=r"wanted three coordinates for each vertex"):
        vertices(folder, ijk, hemi)
    write_mgz(folder.to_white("lh"), np.ones(30))
    with pytest.raises(DataError, match=r"lh.white-to-fsaverage.mgz has 30 vertices, but fsaverage has 163842"):
        vertices(folder, ijk, hemi)
    write_mgz(folder.to_white("lh"), np.zeros(30))
    with pytest.raises(DataError, match="NSD counts vertices from 1"):
        vertices(folder, ijk, hemi)


def test_nsds_fsaverage_is_drawn_where_it_is_there(folder: NsdFolder) -> None:
    assert fsaverage(folder) is None
    (folder.fsaverage / "surf").mkdir(parents=True)
    for hemi in HEMISPHERES:
        for view in ("inflated", "pial"):
            write_geometry(folder.fsaverage / f"surf/{hemi}.{view}", *surface(view, hemi))
        write_morph_data(folder.fsaverage / f"surf/{hemi}.sulc", np.arange(FSAVERAGE5_VERTICES, dtype=np.float32))
    geometry = fsaverage(folder)
    assert geometry is not None and set(geometry.views) == {"inflated", "pial"}
    np.testing.assert_allclose(geometry.views["pial"]["rh"][0], surface("pial", "rh")[0], atol=1e-4)
    np.testing.assert_array_equal(geometry.views["pial"]["rh"][1], surface("pial", "rh")[1])
    assert geometry.background["lh"][7] == 7
    for data, words in ((b"no", "is no readable FreeSurfer curvature file"), (None, "has 3 vertices, but the surfaces .* 10242")):
        path = folder.fsaverage / "surf/rh.sulc"
        write_morph_data(path, np.zeros(3, np.float32)) if data is None else path.write_bytes(data)
        with pytest.raises(DataError, match=f"rh.sulc {words}"):
            fsaverage(folder)
    (folder.fsaverage / "surf/lh.pial").write_bytes(b"no surface")
    with pytest.raises(DataError, match=r"lh.pial is no readable FreeSurfer surface"):
        fsaverage(folder)
