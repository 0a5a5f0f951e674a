"""Which voxels of LAION-fMRI are read, and what is known of each. Voxels are flat indices, last axis fastest."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets import native_surface
from scuba_ray.datasets.checks import VOXELS, Problems
from scuba_ray.datasets.laion_folder import LaionFolder, plain
from scuba_ray.datasets.masks import Mask, evaluate, is_file
from scuba_ray.datasets.nsd_space import load_npy, surface_columns
from scuba_ray.datasets.places import Place, below
from scuba_ray.datasets.volumes import Volumes, read_volume
from scuba_ray.errors import ConfigError, DataError

BRAIN = "brain"
"""The mask of all voxels with betas."""
UNITS = {"percent": 100.0, "fraction": 1.0}
_SAME = 1e-3
"""Millimetres by which two files' affines may differ."""
_SECTORS = "laion"
_REPEATS = re.compile(r"Noiseceiling(\d+)rep")
Voxels = npt.NDArray[np.int64]


@dataclass
class LaionVoxels:
    """Maps of one subject, held against the header of its first session."""

    folder: LaionFolder
    header: Volumes
    notes: list[str] = field(default_factory=list)

    def chosen(self, mask: str) -> Voxels:
        """The voxels of a mask expression, rising.

        Raises
        ------
        ConfigError
            If the expression cannot be read.
        DataError
            If a region or file is missing or does not fit, or no voxel is left.
        """
        voxel_V = np.flatnonzero(evaluate(mask, self._term))
        if not len(voxel_V):
            raise DataError(f"mask {mask!r} holds no voxel of {self.folder.subject}")
        return voxel_V

    def table(self, voxel_V: Voxels, rois: list[str] | None, ceiling: str | None, unit: str) -> pa.Table:
        """The table of `SubjectDataset.voxels`; `rois` are regions or their folders, none takes all but the laion sectors."""
        ijk_V3 = np.stack(np.unravel_index(voxel_V, self.header.shape), axis=1)
        xyz_V3 = ijk_V3 @ self.header.affine[:3, :3].T + self.header.affine[:3, 3]
        columns: dict[str, Any] = {
            "voxel_id": pa.array(voxel_V, pa.int64()),
            **surface_columns(*self._surface(xyz_V3), xyz_V3),
            **{name: pa.array(ijk_V3[:, axis], pa.int32()) for axis, name in enumerate("ijk")},
            "rois": pa.array(self._regions(voxel_V, rois), pa.list_(pa.string())),
            "ncsnr": self._ncsnr(voxel_V, ceiling, unit),
        }
        return pa.table([columns[name] for name in VOXELS.names], schema=VOXELS)

    def _term(self, word: str) -> Mask:
        if is_file(word):
            return self._map(below(self.folder.root, word)) > 0
        if word == BRAIN:
            return self._map(self.folder.brain) > 0
        inside_N = np.zeros(int(np.prod(self.header.shape)), bool)
        for path in self._named(word).values():
            inside_N |= self._map(path) > 0
        return inside_N

    def _named(self, word: str) -> dict[str, Place]:
        """A region by its name, or all regions of a folder."""
        regions = self.folder.regions()
        if plain(word) in regions:
            return {plain(word): regions[plain(word)]}
        found = {name: path for name, path in regions.items() if path.parent.name == word}
        if not found:
            raise DataError(self.folder.missing_region(word))
        return found

    def _regions(self, voxel_V: Voxels, rois: list[str] | None) -> list[list[str]]:
        if rois is None:
            named = {name: path for name, path in self.folder.regions().items() if not name.startswith(_SECTORS)}
        else:
            named = {name: path for word in rois for name, path in self._named(word).items()}
        regions_V: list[list[str]] = [[] for _ in voxel_V]
        problems = Problems()
        for name, path in named.items():
            with problems.collected():
                for voxel in np.flatnonzero(self._map(path)[voxel_V] > 0):
                    regions_V[voxel].append(name)
        problems.tell()
        return regions_V

    def _ncsnr(self, voxel_V: Voxels, desc: str | None, unit: str) -> pa.Array:
        """ncsnr of a single trial from a ceiling c of n repeats: c = s^2 / (s^2 + 1/n)."""
        path = None if desc is None else self.folder.ceiling(desc)
        if path is None or desc is None or not path.is_file():
            if path is not None:
                self.notes.append(f"no noise ceilings: {path.name} is missing in {path.parent}; they come from repeats")
            return pa.nulls(len(voxel_V), pa.float32())
        match = _REPEATS.fullmatch(desc)
        if not match:
            raise ConfigError(f"noise_ceiling must name a map of one number of repeats, such as Noiseceiling4rep, got {desc!r}")
        whole_N = self._map(path).astype(np.float64)
        top = float(np.nanmax(whole_N))
        if top > UNITS[unit] or (unit == "percent" and 0 < top <= 1):
            raise DataError(f"{path} goes up to {top:g}, which is no {unit}; set the option ceiling_unit ({', '.join(UNITS)})")
        ceiling_V = np.clip(whole_N[voxel_V] / UNITS[unit], 0, None)
        with np.errstate(divide="ignore"):
            ncsnr_V = np.sqrt(ceiling_V / (1 - ceiling_V) / int(match[1])).astype(np.float32)
        return pa.array(ncsnr_V, mask=~np.isfinite(ncsnr_V))

    def _surface(self, xyz_V3: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
        missing = [path.name for path in native_surface.wanted_files(self.folder.surfaces) if not path.is_file()]
        if missing:
            self.notes.append(
                f"no voxel has a vertex, so no surface is drawn: missing in {self.folder.surfaces}: {', '.join(missing)}"
            )
            return np.full(len(xyz_V3), -1, np.int8), np.full(len(xyz_V3), -1, np.int32)
        hemi_V, vertex_V = native_surface.vertices(self.folder.surfaces, xyz_V3)
        if (vertex_V < 0).any():
            self.notes.append(
                f"{(vertex_V < 0).sum()} of {len(vertex_V)} voxels have no vertex: they are more than {native_surface.FAR:g} mm "
                "from the cortex"
            )
        return hemi_V, vertex_V

    def _map(self, path: Place) -> npt.NDArray[Any]:
        """A volume of the betas' shape and place, flat."""
        if path.suffix == ".npy":
            values, affine = load_npy(path), self.header.affine
        else:
            values, affine = read_volume(path)
        reference = f"{self.header.path.name} has"
        if values.shape != self.header.shape:
            raise DataError(
                f"{path} has shape {values.shape}, but {reference} {self.header.shape} (X, Y, Z): is it of another subject or "
                "resolution, or are its axes in another order?"
            )
        if not np.allclose(affine, self.header.affine, atol=_SAME):
            raise DataError(
                f"{path} lies elsewhere: its affine is {_text(affine)}, {reference} {_text(self.header.affine)}; is it of "
                "another subject?"
            )
        return values.ravel()


def _text(affine: npt.NDArray[np.float64]) -> str:
    return str(np.round(affine[:3], 3).tolist())
