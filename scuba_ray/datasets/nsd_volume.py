"""NSD's functional volumes: label files, localiser maps, ncsnr, masks, and where a voxel lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets import nsd_surface
from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.nsd_folder import NsdFolder
from scuba_ray.datasets.nsd_space import Floats, Labels, load_npy, surface_columns, whole_labels
from scuba_ray.datasets.places import Place, relative
from scuba_ray.datasets.volumes import read_volume
from scuba_ray.errors import DataError
from scuba_ray.protocols import Grid

_WHOLE = ("HCP_MMP1", "nsdgeneral")


@dataclass
class VolumeSpace:
    """A subject's functional volume of `shape` (X, Y, Z), which is what the betas have; every map must have it too."""

    folder: NsdFolder
    shape: tuple[int, ...]
    reference: Place
    """The file the shape was read from, for messages."""
    affine: npt.NDArray[np.float64] | None = None
    """Of the betas, where their file has one; else the first map's counts."""
    files: dict[str, Place] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _labels: dict[str, Labels] = field(default_factory=dict)

    def collections(self) -> list[str]:
        """Collections of regions in the folder `roi`."""
        paths = (self.folder.volumes / "roi").glob("*.nii.gz")
        return sorted({path.name.removesuffix(".nii.gz").removeprefix("lh.").removeprefix("rh.") for path in paths})

    def labels(self, collection: str) -> Labels:
        """Labels of `[lh.|rh.]COLLECTION.nii.gz`; hemispheres are known where the files of the two are there.

        Raises
        ------
        DataError
            If there is no such file, a shape is not the betas', or the hemispheres lie on each other's side.
        """
        if collection not in self._labels:
            self._labels[collection] = self._read_labels(collection)
        return self._labels[collection]

    def _read_labels(self, collection: str) -> Labels:
        roi = self.folder.volumes / "roi"
        both, halves = roi / f"{collection}.nii.gz", [roi / f"{hemi}.{collection}.nii.gz" for hemi in HEMISPHERES]
        if not both.is_file() and not all(path.is_file() for path in halves):
            there = ", ".join(self.collections()) or "nothing"
            raise DataError(f"no regions {collection!r}: {both.name} is missing in {roi}; there is {there}")
        label_N = whole_labels(str(both), self._map(both)[0]) if both.is_file() else np.zeros(np.prod(self.shape), np.int32)
        hemi_N = np.full(len(label_N), -1, np.int8)
        x: dict[str, float] = {}
        for number, (hemi, path) in enumerate(zip(HEMISPHERES, halves, strict=True)):
            if path.is_file():
                half_N, affine = self._map(path)
                inside = np.flatnonzero(half_N > 0)
                hemi_N[inside] = number
                if not both.is_file():
                    label_N[inside] = whole_labels(str(path), half_N[inside])
                if len(inside):
                    x[hemi] = float(np.median(self._xyz(inside, affine)[:, 0]))
        if x.get("lh", -np.inf) > x.get("rh", np.inf):
            raise DataError(
                f"hemispheres are swapped in {roi}: {halves[0].name} lies at x = {x['lh']:.0f} mm, {halves[1].name} at "
                f"x = {x['rh']:.0f} mm (medians, by the files' affines), but left is where x is smaller"
            )
        return Labels(label_N, hemi_N)

    def t_map(self, name: str) -> Floats | None:
        """`floc_NAMEtval.nii.gz`, or None where it is not there."""
        path = self.folder.volumes / f"floc_{name}tval.nii.gz"
        return self._map(path)[0].astype(np.float32) if path.is_file() else None

    def ncsnr(self) -> Floats | None:
        """`ncsnr.nii.gz` beside the betas, or None where it is not there."""
        path = self.folder.betas / "ncsnr.nii.gz"
        return self._map(path)[0].astype(np.float32) if path.is_file() else None

    def mask(self, path: Place) -> npt.NDArray[np.bool_]:
        """A mask file of the same shape: NIfTI or .npy, larger than 0 is inside."""
        return np.asarray(self._map(path)[0] > 0)

    def places(self, index_V: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        """Columns hemi, vertex (of fsaverage5), i, j, k and xyz in millimetres by the files' affine."""
        ijk_V3 = np.stack(np.unravel_index(index_V, self.shape), axis=1).astype(np.int64)
        hemi_V = self._hemispheres(index_V)
        vertex_V = self._vertices(ijk_V3, hemi_V)
        columns = {name: pa.array(ijk_V3[:, axis], pa.int32()) for axis, name in enumerate("ijk")}
        xyz_V3 = None if self.affine is None else self._xyz(index_V, self.affine)
        return {**surface_columns(hemi_V, vertex_V, xyz_V3), **columns}

    def grid(self) -> Grid | None:
        """Shape and affine; None where no file had an affine."""
        x, y, z = self.shape
        return None if self.affine is None else Grid(self.folder.space, (x, y, z), self.affine)

    def _hemispheres(self, index_V: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """Hemisphere of each voxel by the label files read so far, and by atlases of the whole cortex for what is left."""
        hemi_V = np.full(len(index_V), -1, np.int8)
        for collection in (*self._labels, *(name for name in _WHOLE if name in self.collections())):
            if (hemi_V < 0).any():
                hemi_V = np.where(hemi_V < 0, self.labels(collection).hemi_N[index_V], hemi_V)
        return hemi_V

    def _vertices(self, ijk_V3: npt.NDArray[np.int64], hemi_V: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
        wanted = nsd_surface.wanted_files(self.folder)
        missing = [relative(path, self.folder.root) for path in wanted if not path.is_file()]
        if missing:
            self.notes.append(f"no voxel has a vertex, so no surface is drawn: missing {', '.join(missing)}")
            return np.full(len(ijk_V3), -1, np.int32)
        for path in wanted:
            self.files[str(path)] = path
        vertex_V = nsd_surface.vertices(self.folder, ijk_V3, hemi_V)
        if (vertex_V < 0).any():
            self.notes.append(
                f"{(vertex_V < 0).sum()} of {len(vertex_V)} voxels have no vertex: their hemisphere is not known, or they are "
                f"more than {nsd_surface.FAR:g} voxels from the cortex"
            )
        return vertex_V

    def _map(self, path: Place) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        """A volume of the betas' shape, flat, and its affine."""
        if path.suffix == ".npy":
            values, affine = load_npy(path), None
        else:
            values, affine = read_volume(path)
        if values.shape != self.shape:
            raise DataError(
                f"{path} has shape {values.shape}, but {self.reference.name} of {self.folder.name} has {self.shape} (X, Y, Z): "
                "is it of another subject or resolution, or are its axes in another order?"
            )
        self.files[str(path)] = path
        if affine is None:
            return values.ravel(), np.eye(4)
        if self.affine is None:
            self.affine = affine
        if _directions(affine) != _directions(self.affine):
            raise DataError(
                f"{path}: its axes run towards {_directions(affine)}, those of the other files of {self.folder.name} towards "
                f"{_directions(self.affine)}"
            )
        return values.ravel(), affine

    def _xyz(self, index_V: npt.NDArray[np.int64], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        ijk_V3 = np.stack(np.unravel_index(index_V, self.shape), axis=1)
        xyz_V3: npt.NDArray[np.float64] = ijk_V3 @ affine[:3, :3].T + affine[:3, 3]
        return xyz_V3


def _directions(affine: npt.NDArray[np.float64]) -> str:
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(affine))
