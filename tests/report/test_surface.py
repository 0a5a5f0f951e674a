"""Packed surfaces give back their coordinates, faces and cuts."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest

from scuba_ray.datasets.geometry import fsaverage5
from scuba_ray.errors import DataError
from scuba_ray.protocols import Geometry
from scuba_ray.report.surface import pack


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.mark.parametrize("view", ["inflated", "pial", "flat"])
def test_coordinates_survive_to_micrometres(view: str) -> None:
    geometry = fsaverage5()
    packed = pack(geometry)
    for h, hemi in enumerate(packed["hemispheres"]):
        coords, faces = geometry.views[view][hemi]
        part = packed["views"][view][h]
        found = unpacked(part["coords"], "<i2").reshape(-1, 3) * part["step"]
        used = np.unique(faces)
        middle = (coords[used].min(axis=0) + coords[used].max(axis=0)) / 2
        np.testing.assert_allclose(found[used], coords[used] - middle, atol=0.006)


def test_faces_of_the_flat_view_are_marked() -> None:
    geometry = fsaverage5()
    packed = pack(geometry)
    for h, hemi in enumerate(packed["hemispheres"]):
        faces = unpacked(packed["faces"][h], "<u4").reshape(-1, 3)
        np.testing.assert_array_equal(faces, geometry.views["inflated"][hemi][1])
        shown = faces[unpacked(packed["views"]["flat"][h]["shown"], "u1").astype(bool)]
        flat = geometry.views["flat"][hemi][1]
        assert {frozenset(face) for face in shown.tolist()} == {frozenset(face) for face in flat.tolist()}
        assert "shown" not in packed["views"]["pial"][h]


def test_views_that_do_not_belong_together_are_refused() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    first = (corners, np.array([[0, 1, 2]]))
    for other, reason in [((corners[:3], first[1]), "3 vertices"), ((corners, np.array([[1, 2, 3]])), "lacks")]:
        geometry = Geometry(space="toy", views={"inflated": {"lh": first}, "flat": {"lh": other}})
        with pytest.raises(DataError, match=reason):
            pack(geometry)
    alone = dataclasses.replace(geometry, views={"inflated": {"lh": first}})
    assert pack(alone)["shade"] == [None]
