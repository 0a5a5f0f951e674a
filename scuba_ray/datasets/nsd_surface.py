"""From a voxel to the vertex it is drawn at, by NSD's own transform files; and NSD's fsaverage as a surface to draw on.

`{hemi}.white-to-fsaverage.mgz` names for every vertex of fsaverage one of the subject's own vertices, and
`{hemi}.func1pt8-to-layerB2.mgz` says where that one lies in the volume, half way through the cortex (both from 1; 9999 marks a
place outside of the volume). So every vertex of fsaverage has a place in the volume, and a voxel belongs to the nearest. The
report draws fsaverage5, whose vertices are the first 10,242 of fsaverage: the sphere says which of them is nearest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.fsaverage import VERTICES, nearest_of_fsaverage5
from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.nsd_folder import NsdFolder
from scuba_ray.datasets.places import Place, on_disk
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.datasets.volumes import read_volume
from scuba_ray.errors import DataError
from scuba_ray.protocols import Geometry

_NOWHERE = 9999
FAR = 2.0
"""Voxels between a voxel and its vertex beyond which it belongs to none."""
_VIEWS = ("inflated", "pial")


def wanted_files(folder: NsdFolder) -> list[Place]:
    """What vertices of volumes are made of."""
    return [path(hemi) for hemi in HEMISPHERES for path in (folder.to_white, folder.to_layer)]


def vertices(folder: NsdFolder, ijk_V3: npt.NDArray[np.int64], hemi_V: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """The vertex of fsaverage5 of each voxel, (V,) int32; -1 where the nearest is more than `FAR` voxels away.

    Parameters
    ----------
    ijk_V3 : array of shape (V, 3)
        Voxel indices from 0.
    hemi_V : array of shape (V,)
        Index into `HEMISPHERES`; -1 where the hemisphere is not known, and so is the vertex.

    Raises
    ------
    DataError
        If a transform is unreadable or does not fit the others.
    """
    from scipy.spatial import cKDTree

    vertex_V = np.full(len(ijk_V3), -1, np.int32)
    for number, hemi in enumerate(HEMISPHERES):
        mine = np.flatnonzero(hemi_V == number)
        if not len(mine):
            continue
        own_F = to_own_vertices(folder, hemi)
        if len(own_F) != VERTICES:
            raise DataError(f"{folder.to_white(hemi)} has {len(own_F)} vertices, but fsaverage has {VERTICES}")
        place_N3 = _places(folder.to_layer(hemi))
        if own_F.max() >= len(place_N3):
            raise DataError(
                f"{folder.to_layer(hemi)} has {len(place_N3)} vertices, but {folder.to_white(hemi).name} names vertex "
                f"{own_F.max() + 1}: are both files of {folder.name} and of hemisphere {hemi}?"
            )
        place_F3 = place_N3[own_F] - 1
        there_F = np.flatnonzero((place_N3[own_F] != _NOWHERE).all(1))
        if not len(there_F):
            raise DataError(
                f"{folder.to_layer(hemi)} puts every vertex of fsaverage outside of the volume ({_NOWHERE}): is it the file of "
                f"{folder.name} and of {folder.space}?"
            )
        distance_V, nearest_V = cKDTree(place_F3[there_F]).query(ijk_V3[mine])
        vertex_V[mine] = np.where(distance_V <= FAR, nearest_of_fsaverage5(hemi)[there_F[nearest_V]], -1)
    return vertex_V


def _places(path: Place) -> npt.NDArray[np.float64]:
    values = read_volume(path)[0]
    if values.size != 3 * len(values):
        raise DataError(f"{path} has shape {values.shape}, wanted three coordinates for each vertex")
    places: npt.NDArray[np.float64] = values.reshape(len(values), 3, order="F").astype(np.float64)
    return places


def to_own_vertices(folder: NsdFolder, hemi: str) -> npt.NDArray[np.int64]:
    """For each vertex of fsaverage the subject's own vertex, from 0."""
    path = folder.to_white(hemi)
    own_F: npt.NDArray[np.int64] = read_volume(path)[0].ravel().astype(np.int64) - 1
    if own_F.min() < 0:
        raise DataError(f"{path} holds {own_F.min() + 1}, but NSD counts vertices from 1")
    return own_F


def fsaverage(folder: NsdFolder) -> Geometry | None:
    """NSD's own fsaverage, inflated and pial, where its surfaces are there. Coordinates in millimetres."""
    surfaces = folder.fsaverage / "surf"
    if not all((surfaces / f"{hemi}.{name}").is_file() for hemi in HEMISPHERES for name in (*_VIEWS, "sulc")):
        return None
    views = {view: {hemi: _read_surface(surfaces / f"{hemi}.{view}") for hemi in HEMISPHERES} for view in _VIEWS}
    background = {hemi: _read_depth(surfaces / f"{hemi}.sulc", len(views["pial"][hemi][0])) for hemi in HEMISPHERES}
    return Geometry("fsaverage", views, background)


def _read_surface(path: Place) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    from nibabel.freesurfer.io import read_geometry

    try:
        with on_disk(path) as copy:
            coords, faces = read_geometry(copy)
    except StoreError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no readable FreeSurfer surface: {error}") from error
    return coords.astype(np.float32), faces.astype(np.int32)


def _read_depth(path: Place, vertices: int) -> npt.NDArray[np.float32]:
    from nibabel.freesurfer.io import read_morph_data

    try:
        with on_disk(path) as copy:
            depth_N: npt.NDArray[np.float32] = read_morph_data(copy).astype(np.float32)
    except StoreError:
        raise
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path} is no readable FreeSurfer curvature file: {error}") from error
    if len(depth_N) != vertices:
        raise DataError(f"{path} has {len(depth_N)} vertices, but the surfaces beside it have {vertices}")
    return depth_N
