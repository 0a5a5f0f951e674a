"""From a voxel to the vertex of fsaverage5 it is drawn at, by the subject's own FreeSurfer surfaces.

A voxel belongs to the nearest of the subject's vertices half way between white matter and pia; where that vertex lies among
fsaverage's is what `sphere.reg` says, FreeSurfer's registration by folding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.geometry import HEMISPHERES, surface
from scuba_ray.datasets.places import Place, on_disk
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import DataError

FAR = 3.0
"""Millimetres between a voxel and its vertex beyond which it belongs to none."""
_NAMES = ("white", "pial", "sphere.reg")
Floats = npt.NDArray[np.float64]


def wanted_files(folder: Place) -> list[Place]:
    """What vertices are made of."""
    return [folder / f"{hemi}.{name}" for hemi in HEMISPHERES for name in _NAMES]


def vertices(folder: Place, xyz_V3: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """Hemisphere (index into `HEMISPHERES`) and vertex of fsaverage5 of each place, both (V,); -1 where no cortex is near.

    Parameters
    ----------
    xyz_V3 : array of shape (V, 3)
        Scanner millimetres, as the affine of a volume gives them.

    Raises
    ------
    DataError
        If a surface is unreadable, or the surfaces of a hemisphere differ in their vertices.
    """
    from scipy.spatial import cKDTree

    distances, nearest = [], []
    for hemi in HEMISPHERES:
        white_N3, pial_N3, sphere_N3 = (_read(folder / f"{hemi}.{name}", name) for name in _NAMES)
        if not len(white_N3) == len(pial_N3) == len(sphere_N3):
            raise DataError(
                f"surfaces of {hemi} in {folder} have {len(white_N3)} (white), {len(pial_N3)} (pial) and {len(sphere_N3)} "
                "(sphere.reg) vertices: are they of one subject?"
            )
        distance_V, own_V = cKDTree((white_N3 + pial_N3) / 2).query(xyz_V3)
        common_N3 = surface("sphere", hemi)[0]
        fsaverage5_V = cKDTree(_unit(common_N3)).query(_unit(sphere_N3[own_V]))[1]
        distances.append(distance_V)
        nearest.append(fsaverage5_V)
    hemi_V = np.argmin(distances, axis=0).astype(np.int8)
    near_V = np.min(distances, axis=0) <= FAR
    vertex_V = np.choose(hemi_V, nearest)
    return np.where(near_V, hemi_V, -1).astype(np.int8), np.where(near_V, vertex_V, -1).astype(np.int32)


def _unit(points_N3: npt.NDArray[np.floating]) -> Floats:
    unit_N3: Floats = points_N3 / np.linalg.norm(points_N3, axis=1, keepdims=True)
    return unit_N3


def _read(path: Place, name: str) -> Floats:
    from nibabel.freesurfer.io import read_geometry

    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    try:
        with on_disk(path) as copy:
            points_N3, _, about = read_geometry(copy, read_metadata=True)
    except StoreError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no readable FreeSurfer surface: {error}") from error
    if name == "sphere.reg":
        return np.asarray(points_N3, np.float64)
    return np.asarray(points_N3, np.float64) + _centre(path, about)


def _centre(path: Place, about: Any) -> Floats:
    """FreeSurfer's surfaces count from the middle of its volume, whose place in the scanner a surface carries."""
    if "cras" not in about:
        raise DataError(
            f"{path} does not say where its volume lies in the scanner (cras); write it anew with FreeSurfer 5 or later"
        )
    return np.asarray(about["cras"], np.float64)
