"""fsaverage from fsaverage5: held against places of FreeSurfer's own icosahedron of 163,842 vertices."""

from __future__ import annotations

import numpy as np
import pytest

from scuba_ray.datasets.fsaverage import VERTICES, cut, nearest_of_fsaverage5
from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, surface

FREESURFER = {
    10242: (-0.0140, 0.0102, 0.9998),
    40961: (0.0280, 0.0000, -0.9996),
    40962: (-0.0070, 0.0051, 1.0000),
    100000: (-0.6654, 0.0613, 0.7440),
    123456: (-0.7619, 0.1602, 0.6275),
    163841: (0.0140, 0.0000, -0.9999),
}
"""Where some vertices of FreeSurfer's seventh icosahedron lie, to four digits."""


@pytest.fixture(scope="module")
def sphere() -> np.ndarray:
    points_N3, faces = surface("sphere", "lh")
    points_N3, faces = points_N3 / np.linalg.norm(points_N3, axis=1, keepdims=True), faces.astype(np.int64)
    for _ in range(2):
        points_N3, faces = cut(points_N3, faces)
    assert faces.shape == (2 * VERTICES - 4, 3)
    return points_N3


def test_vertices_have_freesurfers_numbers(sphere: np.ndarray) -> None:
    assert sphere.shape == (VERTICES, 3)
    for vertex, place in FREESURFER.items():
        np.testing.assert_allclose(sphere[vertex], place, atol=2e-4)  # neighbours are 0.007 apart


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_the_nearest_vertex_of_fsaverage5(hemi: str, sphere: np.ndarray) -> None:
    nearest = nearest_of_fsaverage5(hemi)
    np.testing.assert_array_equal(nearest[:FSAVERAGE5_VERTICES], np.arange(FSAVERAGE5_VERTICES))
    assert len(nearest) == VERTICES and nearest.max() < FSAVERAGE5_VERTICES
    distance = np.linalg.norm(sphere - sphere[nearest], axis=1)
    some = np.random.default_rng(0).integers(0, VERTICES, 50)
    others = np.linalg.norm(sphere[some, None] - sphere[None, :FSAVERAGE5_VERTICES], axis=2).min(1)
    np.testing.assert_allclose(distance[some], others, atol=1e-6)
    # every vertex of fsaverage5 has about sixteen
    assert np.bincount(nearest).min() >= 8 and np.bincount(nearest).max() <= 24
