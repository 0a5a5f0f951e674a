"""Where a phantom's voxels lie: patches of neighbouring vertices on fsaverage5 at the places the regions have in a brain.

Seeds are approximate centres of the regions in fsaverage (MNI305) coordinates from the literature on them (FFA and OFA; EBA and
FBA; PPA, OPA and RSC; the word form area and the superior temporal sulcus, more on the left; two food patches beside the
fusiform; the lateral occipital complex and the intraparietal sulcus).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, HEMISPHERES, surface
from scuba_ray.errors import ConfigError

MOST_VOXELS = 16_000
"""Voxels a phantom can have: one per vertex, and the medial wall is no cortex."""

# region: (x of the left hemisphere, y, z) in millimetres and the share of its voxels on the left and right
_SEEDS: dict[str, tuple[tuple[tuple[float, float, float], float, float], ...]] = {
    "faces": (((-40, -52, -20), 0.28, 0.32), ((-38, -76, -14), 0.18, 0.22)),
    "bodies": (((-48, -68, 8), 0.30, 0.34), ((-44, -38, -22), 0.16, 0.20)),
    "places": (((-27, -46, -10), 0.22, 0.22), ((-32, -84, 22), 0.16, 0.16), ((-16, -57, 12), 0.12, 0.12)),
    "words": (((-46, -60, -12), 0.50, 0.20), ((-52, -44, 6), 0.20, 0.10)),
    "food": (((-31, -62, -14), 0.28, 0.28), ((-54, -52, -16), 0.22, 0.22)),
    "objects": (((-40, -86, 0), 0.30, 0.30), ((-26, -66, 42), 0.20, 0.20)),
}


@dataclass(frozen=True)
class Patches:
    """Voxels of all regions, one per vertex, by region; `hemi_V` indexes `HEMISPHERES`, `xyz_V3` is on the pial surface."""

    roi_V: tuple[str, ...]
    hemi_V: np.ndarray
    vertex_V: np.ndarray
    xyz_V3: np.ndarray


def grow_patches(voxels_of: dict[str, int]) -> Patches:
    """Give each region its number of voxels by growing patches from the seeds, nearest vertices first along the surface.

    Raises
    ------
    ConfigError
        If more voxels are wanted than the surface has room for.
    """
    total = sum(voxels_of.values())
    if total > MOST_VOXELS:
        raise ConfigError(f"a phantom has at most {MOST_VOXELS} voxels, got {total}")
    parts = []
    for number, hemi in enumerate(HEMISPHERES):
        pial, faces = surface("pial", hemi)
        quotas, seeds, names = [], [], []
        for roi, count in voxels_of.items():
            for (x, y, z), quota in zip([seed[0] for seed in _SEEDS[roi]], _quotas(roi, count)[:, number], strict=True):
                quotas.append(int(quota))
                seeds.append(int(((pial - np.array([x if hemi == "lh" else -x, y, z])) ** 2).sum(1).argmin()))
                names.append(roi)
        patch_N = _grow(pial, faces, seeds, quotas)
        parts += [(names[patch], number, vertex, pial[vertex]) for vertex, patch in enumerate(patch_N) if patch >= 0]
    order = {roi: index for index, roi in enumerate(voxels_of)}
    parts.sort(key=lambda part: (order[part[0]], part[1], part[2]))
    roi_V, hemi_V, vertex_V, xyz_V = zip(*parts, strict=True)
    return Patches(roi_V, np.array(hemi_V), np.array(vertex_V), np.array(xyz_V, np.float32))


def _quotas(roi: str, count: int) -> np.ndarray:
    """Split a region's voxels over its seeds and hemispheres, (seeds, 2), by largest remainder."""
    shares = np.array([[left, right] for _, left, right in _SEEDS[roi]])
    exact = count * shares / shares.sum()
    quotas: np.ndarray = np.floor(exact).astype(int)
    rest = np.argsort((quotas - exact).ravel(), kind="stable")[: count - quotas.sum()]
    quotas.ravel()[rest] += 1
    return quotas


def _grow(xyz_N3: np.ndarray, faces_F3: np.ndarray, seeds: list[int], quotas: list[int]) -> np.ndarray:
    """Patch of each vertex, (N,), -1 for none: every patch takes free vertices in the order of their distance from its seed.

    All patches grow at once, so two neighbours meet half-way. Fronts run over taken vertices too, which matters only to a patch
    that others have closed in.
    """
    neighbours = _neighbours(xyz_N3, faces_F3)
    patch_N = np.full(FSAVERAGE5_VERTICES, -1)
    left = list(quotas)
    reached: list[set[int]] = [set() for _ in seeds]
    front = [(0.0, patch, seed) for patch, seed in enumerate(seeds)]
    heapq.heapify(front)
    while front:
        distance, patch, vertex = heapq.heappop(front)
        if not left[patch] or vertex in reached[patch]:
            continue
        reached[patch].add(vertex)
        if patch_N[vertex] < 0:
            patch_N[vertex] = patch
            left[patch] -= 1
        for length, neighbour in neighbours[vertex]:
            heapq.heappush(front, (distance + length, patch, neighbour))
    return patch_N


def _neighbours(xyz_N3: np.ndarray, faces_F3: np.ndarray) -> list[list[tuple[float, int]]]:
    """For each vertex its neighbours with their distance in millimetres."""
    edges = np.unique(np.sort(np.concatenate([faces_F3[:, [0, 1]], faces_F3[:, [1, 2]], faces_F3[:, [2, 0]]]), axis=1), axis=0)
    lengths = np.linalg.norm(xyz_N3[edges[:, 0]] - xyz_N3[edges[:, 1]], axis=1)
    neighbours: list[list[tuple[float, int]]] = [[] for _ in range(len(xyz_N3))]
    for (first, second), length in zip(edges.tolist(), lengths.tolist(), strict=True):
        neighbours[first].append((length, second))
        neighbours[second].append((length, first))
    return neighbours
