"""NSD on fsaverage: labels and maps per vertex, the left hemisphere's vertices before the right's.

Atlases lie in fsaverage's own label folder. What was drawn or measured on the subject's cortex (the localiser's regions and
t maps, V1 to hV4) has the subject's own vertices and comes to fsaverage by `{hemi}.white-to-fsaverage.mgz`, nearest vertex, as
NSD's own tools do it.
"""

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
from scuba_ray.datasets.places import Place
from scuba_ray.datasets.volumes import read_volume
from scuba_ray.errors import DataError

_DRAWN = ("floc", "prf")


@dataclass
class SurfaceSpace:
    """fsaverage with `vertices` per hemisphere, as the betas have."""

    folder: NsdFolder
    vertices: int
    files: dict[str, Place] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def collections(self) -> list[str]:
        """Collections of regions in the label folders of fsaverage and of the subject."""
        names = {path.name for folder in self.folder.labels() for path in folder.glob("lh.*.mgz")}
        return sorted(name.removeprefix("lh.").removesuffix(".mgz") for name in names)

    def labels(self, collection: str) -> Labels:
        """Labels of `{hemi}.COLLECTION.mgz`: the subject's own first for what was drawn on it, fsaverage's first for atlases."""
        found = self._map(collection)
        if found is None:
            places = " or ".join(str(folder) for folder in self.folder.labels())
            there = ", ".join(self.collections()) or "nothing"
            raise DataError(f"no regions {collection!r}: lh.{collection}.mgz is missing in {places}; there is {there}")
        return Labels(whole_labels(f"{{lh,rh}}.{collection}.mgz", found), self._hemi_N)

    @property
    def _hemi_N(self) -> npt.NDArray[np.int8]:
        return np.repeat(np.arange(len(HEMISPHERES), dtype=np.int8), self.vertices)

    def t_map(self, name: str) -> Floats | None:
        """`{hemi}.flocNAMEtval.mgz`, or None where it is not there."""
        found = self._map(f"floc{name}tval")
        return None if found is None else found.astype(np.float32)

    def ncsnr(self) -> Floats | None:
        """`{hemi}.ncsnr.mgh` beside the betas, or None where one is not there."""
        paths = [self.folder.betas / f"{hemi}.ncsnr.mgh" for hemi in HEMISPHERES]
        if not all(path.is_file() for path in paths):
            return None
        return np.concatenate([self._checked(path) for path in paths]).astype(np.float32)

    def mask(self, path: Place) -> npt.NDArray[np.bool_]:
        """A mask of both hemispheres, left before right, in an .npy file: larger than 0 is inside."""
        values = load_npy(path)
        if values.shape != (2 * self.vertices,):
            raise DataError(
                f"{path} has shape {values.shape}, wanted ({2 * self.vertices},): the left hemisphere, then the right"
            )
        self.files[str(path)] = path
        return np.asarray(values.astype(np.float64) > 0)

    def places(self, index_V: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        """Columns hemi, vertex (of fsaverage), and xyz on the pial surface (mm) where NSD's fsaverage is there."""
        vertex_V = (index_V % self.vertices).astype(np.int32)
        surface = nsd_surface.fsaverage(self.folder)
        xyz_V3 = None
        if surface is None:
            self.notes.append(
                f"no surface is drawn: {self.folder.fsaverage / 'surf'} lacks inflated, pial or sulc of a hemisphere"
            )
        else:
            coords = [surface.views["pial"][hemi][0] for hemi in HEMISPHERES]
            if any(len(coords_N3) != self.vertices for coords_N3 in coords):
                raise DataError(
                    f"{self.folder.fsaverage / 'surf'} has {[len(coords_N3) for coords_N3 in coords]} vertices, but the betas of "
                    f"{self.folder.name} have {self.vertices} per hemisphere"
                )
            xyz_V3 = np.concatenate(coords)[index_V]
        places = {name: pa.nulls(len(index_V), pa.int32()) for name in "ijk"}
        return {**surface_columns(self._hemi_N[index_V], vertex_V, xyz_V3), **places}

    def _map(self, name: str) -> npt.NDArray[Any] | None:
        common, own = self.folder.labels()
        for folder in (own, common) if name.startswith(_DRAWN) else (common, own):
            paths = {hemi: folder / f"{hemi}.{name}.mgz" for hemi in HEMISPHERES}
            if all(path.is_file() for path in paths.values()):
                parts = [self._checked(path) if folder == common else self._from_own(path, hemi) for hemi, path in paths.items()]
                return np.concatenate(parts)
        return None

    def _checked(self, path: Place) -> npt.NDArray[Any]:
        values = read_volume(path)[0].ravel()
        if len(values) != self.vertices:
            raise DataError(f"{path} has {len(values)} vertices, but the betas of {self.folder.name} have {self.vertices}")
        self.files[str(path)] = path
        return values

    def _from_own(self, path: Place, hemi: str) -> npt.NDArray[Any]:
        """The subject's own vertices brought to fsaverage."""
        values, transform = read_volume(path)[0].ravel(), self.folder.to_white(hemi)
        own_F = nsd_surface.to_own_vertices(self.folder, hemi)
        if len(own_F) != self.vertices:
            raise DataError(f"{transform} has {len(own_F)} vertices, but the betas of {self.folder.name} have {self.vertices}")
        layer = self.folder.to_layer(hemi)
        count = len(read_volume(layer)[0]) if layer.is_file() else len(values)
        if count != len(values) or own_F.max() >= len(values):
            raise DataError(
                f"{path} has {len(values)} vertices, but hemisphere {hemi} of {self.folder.name} has "
                f"{max(count, own_F.max() + 1)}: is it of the other hemisphere or of another subject?"
            )
        self.files[str(path)], self.files[str(transform)] = path, transform
        return values[own_F]
