"""Maps of one value per voxel, vertex or grayordinate: masks, labels and noise ceilings, held against the space of the responses.

A map is a file, or one for each hemisphere (`lh`, `rh`). NIfTI, MGH, GIfTI, CIFTI, .npy and .npz:KEY are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, HEMISPHERES
from scuba_ray.datasets.places import Place, below
from scuba_ray.datasets.response_files import open_array, open_cifti, open_gifti, split_key
from scuba_ray.datasets.volumes import read_volume
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Grid

_SAME_PLACE = 0.01
"""Millimetres (per index) by which two affines may differ."""
_CORTEX = {"CIFTI_STRUCTURE_CORTEX_LEFT": "lh", "CIFTI_STRUCTURE_CORTEX_RIGHT": "rh"}


@dataclass(frozen=True)
class Map:
    """The values in a file, and what the file says of itself."""

    path: Place
    values: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None = None
    names: Mapping[int, str] | None = None
    """Of labels, where the file has them."""


@dataclass(frozen=True)
class Places:
    """Where responses lie: a volume of `shape` (X, Y, Z), or (N,) vertices, grayordinates or columns."""

    shape: tuple[int, ...]
    reference: Place
    """A file that has this shape, for messages."""
    affine: npt.NDArray[np.float64] | None = None
    left: int | None = None
    """Of two hemispheres' vertices one after the other, how many are left ones; None where nobody says."""
    model: Any = None
    """CIFTI's own axis of grayordinates."""
    inside_V: npt.NDArray[np.int64] | None = None
    """Where the columns of the responses lie, if they are those of a mask alone; a map may have one value for each of them."""

    @property
    def count(self) -> int:
        """All places."""
        return int(np.prod(self.shape))

    def values(self, root: Place, given: str | Mapping[str, str]) -> tuple[npt.NDArray[Any], Mapping[int, str] | None]:
        """A map's values (N,), in the order of the places, and names of labels. A hemisphere that is not given counts 0.

        Raises
        ------
        ConfigError
            If a map is given by hemisphere and the responses are not.
        DataError
            If a file is missing, damaged, or of another shape or place than the responses.
        """
        if isinstance(given, str):
            found = read_map(root, given)
            if self.inside_V is not None and found.values.shape == self.inside_V.shape:
                values_N = np.zeros(self.count, found.values.dtype)
                values_N[self.inside_V] = found.values
                return values_N, found.names
            self._check(found)
            return found.values.reshape(-1), found.names
        if self.left is None or not given or set(given) - set(HEMISPHERES):
            raise ConfigError(f"a map by hemisphere (lh, rh) needs responses by hemisphere; got {dict(given)}")
        sizes = dict(zip(HEMISPHERES, (self.left, self.count - self.left), strict=True))
        parts, names = [], dict[int, str]()
        for hemi, size in sizes.items():
            if hemi not in given:
                parts.append(np.zeros(size))
                continue
            found = read_map(root, given[hemi])
            if found.values.size != size:
                raise DataError(
                    f"{found.path} has {found.values.size} values, but {hemi} of {self.reference.name} has {size} vertices: is "
                    "it of the other hemisphere, or of another surface?"
                )
            names |= found.names or {}
            parts.append(found.values.reshape(-1))
        return np.concatenate(parts), names or None

    def _check(self, found: Map) -> None:
        if found.values.shape not in {self.shape, (self.count,)}:
            raise DataError(
                f"{found.path} has shape {found.values.shape}, but {self.reference} has {self.shape}: is it of another subject "
                "or resolution, or are its axes in another order?"
            )
        near = found.affine is None or self.affine is None or np.allclose(found.affine, self.affine, atol=_SAME_PLACE)
        if not near:
            raise DataError(
                f"{found.path} lies elsewhere than {self.reference}: the affines differ (voxel 0,0,0 at "
                f"{_rounded(found.affine)} and at {_rounded(self.affine)} mm, steps {_steps(found.affine)} and "
                f"{_steps(self.affine)}); resample it to the responses' space"
            )

    def columns(self, index_V: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        """Columns hemi, vertex, i, j, k and xyz of some places, as far as they are known."""
        count = len(index_V)
        hemi = np.full(count, None, object)
        vertex, ijk_V3 = np.full(count, -1, np.int64), np.full((count, 3), -1, np.int64)
        if self.model is not None:
            names = [_CORTEX.get(name) for name in self.model.name[index_V]]
            hemi[:], vertex, ijk_V3 = names, self.model.vertex[index_V], self.model.voxel[index_V]
            vertex = np.where([name is None for name in names], -1, vertex)
        elif self.left is not None:
            hemi[:] = [HEMISPHERES[int(index >= self.left)] for index in index_V]
            vertex = np.where(index_V < self.left, index_V, index_V - self.left)
        elif len(self.shape) == 3:
            ijk_V3 = np.stack(np.unravel_index(index_V, self.shape), axis=1)
        columns = {"hemi": pa.array(hemi, pa.string()), "vertex": pa.array(vertex, pa.int32(), mask=vertex < 0)}
        columns |= {name: pa.array(ijk_V3[:, axis], pa.int32(), mask=ijk_V3[:, axis] < 0) for axis, name in enumerate("ijk")}
        if self.affine is not None and (ijk_V3 >= 0).all():
            xyz_V3 = (ijk_V3 @ self.affine[:3, :3].T + self.affine[:3, 3]).astype(np.float32)
            columns["xyz"] = pa.FixedSizeListArray.from_arrays(pa.array(xyz_V3.ravel()), 3)
        return columns

    def grid(self) -> Grid | None:
        """The volume that voxels lie in, where there is one and its place is known."""
        shape, affine = self.shape, self.affine
        if self.model is not None and self.model.volume_shape is not None:
            shape, affine = self.model.volume_shape, self.model.affine
        if len(shape) != 3 or affine is None:
            return None
        return Grid("native", (shape[0], shape[1], shape[2]), np.asarray(affine, np.float64))

    @property
    def on_fsaverage5(self) -> bool:
        """Whether both hemispheres have as many vertices as fsaverage5."""
        return self.left == FSAVERAGE5_VERTICES and self.count == 2 * FSAVERAGE5_VERTICES


def read_map(root: Place, given: str) -> Map:
    """A map's values in the shape of its file, without an axis of length 1 at the end.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds several maps.
    """
    name, key = split_key(given)
    path = below(root, name)
    if not path.exists():
        raise DataError(f"{path.name} is missing in {path.parent}")
    lower = path.name.lower()
    affine, names = None, None
    if lower.endswith((".dscalar.nii", ".dlabel.nii")):
        image = open_cifti(path)
        values = np.asarray(image.dataobj)
        if lower.endswith(".dlabel.nii"):
            names = {int(label): one[0] for label, one in image.header.get_axis(0).label[0].items() if label}
        values = values[0] if len(values) == 1 else values
    elif lower.endswith(".gii"):
        gifti = open_gifti(path)
        values = gifti.darrays[0].data if len(gifti.darrays) == 1 else np.stack([one.data for one in gifti.darrays])
        names = {int(label): one for label, one in gifti.labeltable.get_labels_as_dict().items() if label} or None
    elif lower.endswith((".nii", ".nii.gz", ".mgh", ".mgz")):
        values, affine = read_volume(path)
        if values.shape[1:] == (1, 1):
            values, affine = values[:, 0, 0], None
    else:
        values = np.asarray(open_array(path, key))
    if values.dtype.kind not in "biuf" or values.ndim not in {1, 3}:
        raise DataError(f"{path} has {values.dtype} of shape {values.shape}, wanted one number per voxel or vertex")
    return Map(path, values, affine, names)


def _rounded(affine: npt.NDArray[np.float64] | None) -> str:
    return "?" if affine is None else ", ".join(f"{value:.1f}" for value in affine[:3, 3])


def _steps(affine: npt.NDArray[np.float64] | None) -> str:
    return "?" if affine is None else " x ".join(f"{value:.2f}" for value in np.linalg.norm(affine[:3, :3], axis=0))
