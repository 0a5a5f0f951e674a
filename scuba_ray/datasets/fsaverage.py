"""Which vertex of fsaverage5 is nearest to each of fsaverage, without fsaverage's own files.

FreeSurfer's icosahedral surfaces come from one another: each triangle (a, b, c) is cut into four at the middles of its edges,
pushed out onto the sphere. New vertices come after the old ones, triangle by triangle, in the order ac, cb, ba; then the
triangles at all corners a, followed for each triangle by that at c, the middle one and that at b. fsaverage5, which is packaged,
cut twice is fsaverage: held against FreeSurfer's own icosahedra of 40,962 and 163,842 vertices, this order gives every vertex
and triangle, to the rounding of their coordinates.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, surface

VERTICES = 163842
"""Vertices of a hemisphere of fsaverage."""
_CUTS = 2


@cache
def nearest_of_fsaverage5(hemi: str) -> npt.NDArray[np.int32]:
    """For each vertex of fsaverage the nearest of fsaverage5 on the sphere, (163842,); of the first 10,242 themselves."""
    from scipy.spatial import cKDTree

    sphere_N3, faces_F3 = surface("sphere", hemi)
    points_N3 = sphere_N3 / np.linalg.norm(sphere_N3, axis=1, keepdims=True)
    faces = faces_F3.astype(np.int64)
    for _ in range(_CUTS):
        points_N3, faces = cut(points_N3, faces)
    nearest: npt.NDArray[np.int32] = cKDTree(points_N3[:FSAVERAGE5_VERTICES]).query(points_N3)[1].astype(np.int32)
    return nearest


def cut(
    points_N3: npt.NDArray[np.floating], faces_F3: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    """The next finer icosahedron: points (4 N - 6, 3) on the unit sphere and triangles (4 F, 3)."""
    count = len(points_N3)
    a, b, c = faces_F3.T
    edges = np.sort(np.stack([a, c, c, b, b, a], axis=1).reshape(-1, 2), axis=1)
    _, first, inverse = np.unique(edges[:, 0] * count + edges[:, 1], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    ca, bc, ab = (count + number[inverse]).reshape(-1, 3).T
    middle = points_N3[edges[np.sort(first)]].sum(axis=1)
    finer_N3 = np.concatenate([points_N3, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    corners = np.stack([a, ab, ca], axis=1)
    others = np.stack([ca, bc, c, ab, bc, ca, ab, b, bc], axis=1).reshape(-1, 3)
    return finer_N3, np.concatenate([corners, others])
