"""Maps of a volume subject as NIfTI on its own grid: a file per map and region, and the same as arrays for pycortex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scuba_ray.errors import DataError
from scuba_ray.report.export_surface import region_keys

if TYPE_CHECKING:
    from pathlib import Path

    from scuba_ray.protocols import Grid
    from scuba_ray.report.export_maps import Exported

_MILLIMETRES, _SCANNER = 2, 1
"""NIfTI's codes of the unit, and of coordinates that are the scanner's."""


def on_grid(one: Exported, grid: Grid) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.uint8]], int]:
    """Maps of `grid.shape`, NaN where no voxel is; masks of regions, 1 inside; and how many voxels have no place there.

    Raises
    ------
    DataError
        If a voxel lies outside of the grid: then it is not the one that the run was made on.
    """
    ijk_V3 = np.stack([one.voxels[name].fill_null(-1).to_numpy() for name in "ijk"], axis=1)
    row_n = np.flatnonzero((ijk_V3 >= 0).all(1))
    ijk_n3 = ijk_V3[row_n]
    if (ijk_n3 >= grid.shape).any():
        far = ijk_n3[(ijk_n3 >= grid.shape).any(1)][0].tolist()
        raise DataError(
            f"{one.subject} has a voxel at {far}, but its data set's volume has shape {grid.shape}: is the data set still "
            "the one that the run was made of?"
        )
    place_n = tuple(ijk_n3.T)
    maps, masks = {}, {}
    for name, values_V in one.values.items():
        maps[name] = np.full(grid.shape, np.nan, np.float32)
        maps[name][place_n] = values_V[row_n]
    rois = one.rois
    for name in one.colours:
        masks[name] = np.zeros(grid.shape, np.uint8)
        masks[name][place_n] = [name in rois[row] for row in row_n]
    return maps, masks, len(ijk_V3) - len(row_n)


def first_regions(one: Exported, grid: Grid) -> npt.NDArray[np.int16]:
    """The number of each voxel's first region, 0 where none is."""
    labels = np.zeros(grid.shape, np.int16)
    keys = region_keys(one.colours)
    places = zip(*(one.voxels[name].to_pylist() for name in "ijk"), strict=True)
    for place, names in zip(places, one.rois, strict=True):
        if names and None not in place:
            labels[place] = keys[names[0]]
    return labels


def write_volume(path: Path, values: npt.NDArray[Any], grid: Grid, what: str) -> None:
    """A `.nii.gz` with the grid's affine; what it shows is in the header's description (its first 79 bytes)."""
    import nibabel

    image = nibabel.Nifti1Image(values, grid.affine)
    image.header.set_sform(grid.affine, _SCANNER)
    image.header.set_qform(grid.affine, _SCANNER)
    image.header.set_xyzt_units(_MILLIMETRES)
    image.header["descrip"] = what.encode("ascii", "replace")[:79]
    nibabel.save(image, path)


def write_arrays(path: Path, maps: Mapping[str, npt.NDArray[np.float32]], grid: Grid) -> None:
    """An `.npz`: every map as (Z, Y, X), the order `cortex.Volume` takes, and the `affine` of (X, Y, Z)."""
    arrays: dict[str, Any] = {name: values.T for name, values in maps.items()}
    np.savez_compressed(path, **arrays, affine=grid.affine)
