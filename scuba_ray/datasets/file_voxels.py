"""Which voxels the layout `files` has: from a table of them, or from the space of the responses, a mask and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets.checks import VOXELS, Problems, check_voxels, conformed
from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.lab_tables import read_lab_table
from scuba_ray.datasets.map_files import Places, read_map
from scuba_ray.datasets.nsd_folder import read_colour_table
from scuba_ray.datasets.places import Place, below
from scuba_ray.datasets.response_files import ArrayFile, VolumeFile, open_cifti
from scuba_ray.datasets.response_series import ResponseSeries
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Grid

MapGiven = str | Mapping[str, str]
_LISTED = ";"


@dataclass(frozen=True)
class Maps:
    """What the options say of voxels."""

    mask: MapGiven | None
    rois: Mapping[str, MapGiven]
    labels: Sequence[Mapping[str, Any]]
    ncsnr: MapGiven | None


def from_table(root: Place, given: str, columns: int, *, on_fsaverage5: bool) -> pa.Table:
    """Voxels of a table with a row per column of the responses; `rois` of a CSV are joined by ';'.

    Raises
    ------
    DataError
        If the table is not as `checks.VOXELS` says, or has another number of rows.
    """
    path = below(root, given)
    table = read_lab_table(path)
    if "voxel_id" not in table.column_names:
        table = table.append_column("voxel_id", pa.array(np.arange(len(table))))
    if "rois" in table.column_names and pa.types.is_string(table["rois"].type):
        names = [[one.strip() for one in (said or "").split(_LISTED) if one.strip()] for said in table["rois"].to_pylist()]
        table = table.set_column(table.column_names.index("rois"), "rois", pa.array(names, pa.list_(pa.string())))
    if len(table) != columns:
        raise DataError(f"{path} has {len(table)} rows, but responses have {columns} columns: one row per voxel is wanted")
    return check_voxels(path, conformed(path, table, VOXELS, ("voxel_id",)), on_fsaverage5=on_fsaverage5)


def from_maps(root: Place, series: ResponseSeries, maps: Maps) -> tuple[pa.Table, npt.NDArray[np.int64], Grid | None]:
    """Voxels inside the mask, the place of each in the responses, rising, and the volume they lie in, if they do.

    `voxel_id` is the flat index, last axis fastest.

    Raises
    ------
    ConfigError, DataError
        If a map is missing, damaged or does not fit; all of them are named.
    """
    places, index_V, column_V = _inside(root, series, maps.mask)
    problems, regions = Problems(), [list[str]() for _ in index_V]
    for name, given in maps.rois.items():
        with problems.collected():
            for voxel in np.flatnonzero(places.values(root, given)[0][index_V] > 0):
                regions[voxel].append(name)
    for collection in maps.labels:
        with problems.collected():
            label_V, names = _labels(root, places, collection)
            for row, label in enumerate(label_V[index_V].tolist()):
                if label in names:
                    regions[row].append(names[label])
    ncsnr_V = np.full(len(index_V), np.nan, np.float32)
    if maps.ncsnr is not None:
        with problems.collected():
            ncsnr_V = places.values(root, maps.ncsnr)[0][index_V].astype(np.float32)
    problems.tell()
    columns = {"voxel_id": pa.array(index_V, pa.int64()), "rois": pa.array(regions, pa.list_(pa.string()))}
    columns |= places.columns(index_V) | {"ncsnr": pa.array(ncsnr_V, mask=~np.isfinite(ncsnr_V))}
    blank = {field.name: pa.nulls(len(index_V), field.type) for field in VOXELS if field.name not in columns}
    return pa.table([(columns | blank)[name] for name in VOXELS.names], schema=VOXELS), column_V, places.grid()


def _inside(
    root: Place, series: ResponseSeries, mask: MapGiven | None
) -> tuple[Places, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The space, and of each voxel inside the mask its index there and its place in the responses."""
    places, first = _places(series), series.files[0]
    if mask is None:
        if len(places.shape) == 3:
            raise ConfigError(f"{first.path} holds volumes of {places.count:,} voxels: give a `mask` of those that are wanted")
        return places, np.arange(places.count), np.arange(places.count)
    if isinstance(first, ArrayFile) and places.model is None:
        # columns may be those of the mask's own voxels, as numpy and nilearn order them: last axis fastest
        own = _mask_places(root, series, mask)
        index_V = np.flatnonzero(own.values(root, mask)[0] > 0)
        if places.count == len(index_V) != own.count:
            return Places(own.shape, own.reference, own.affine, own.left, inside_V=index_V), index_V, np.arange(len(index_V))
        if own.count != places.count:
            raise DataError(
                f"{own.reference} has {own.count} values, {len(index_V)} of them inside, but {first.path} has {places.count} "
                "columns: wanted one column per value, or one per value inside"
            )
        places = own
    index_V = np.flatnonzero(places.values(root, mask)[0] > 0)
    if not len(index_V):
        raise DataError(f"mask {mask!r} holds no voxel: inside is where it is larger than 0")
    return places, index_V, index_V


def _places(series: ResponseSeries) -> Places:
    first, left = series.files[0], series.places[0] if series.by_hemisphere else None
    if isinstance(first, VolumeFile) and len(first.shape) == 3:
        return Places(first.shape, first.path, first.volumes.affine)
    model = None
    if first.path.name.lower().endswith((".dscalar.nii", ".dtseries.nii")):
        model = open_cifti(first.path).header.get_axis(1)
    return Places((sum(series.places),), first.path, left=left, model=model)


def _mask_places(root: Place, series: ResponseSeries, mask: MapGiven) -> Places:
    """The space of a mask that is given for arrays."""
    if isinstance(mask, str):
        found = read_map(root, mask)
        whole = series.by_hemisphere and found.values.size == sum(series.places)
        return Places(found.values.shape, found.path, found.affine, series.places[0] if whole else None)
    if not series.by_hemisphere or set(mask) != set(HEMISPHERES):
        raise ConfigError(f"a mask by hemisphere is wanted as lh and rh, for responses as lh and rh; got {dict(mask)}")
    sizes = [read_map(root, mask[hemi]).values.size for hemi in HEMISPHERES]
    return Places((sum(sizes),), below(root, mask[HEMISPHERES[0]]), left=sizes[0])


def _labels(root: Place, places: Places, given: Mapping[str, Any]) -> tuple[npt.NDArray[np.int64], Mapping[int, str]]:
    """Labels (N,) of a collection, and their names; 0 is none."""
    if "map" not in given or set(given) - {"map", "names"}:
        raise ConfigError(f"labels: wanted groups of `map` and `names`, got {dict(given)}")
    label_N, names = places.values(root, given["map"])
    said = given.get("names")
    if isinstance(said, str):
        path = below(root, said)
        if not path.is_file():
            raise DataError(f"labels: {path.name} is missing in {path.parent}")
        names = read_colour_table(path)
    elif said is not None:
        names = {int(label): str(name) for label, name in said.items()}
    if not names:
        raise ConfigError(f"labels: {given['map']} does not name its labels; give `names`, as a file or as {{1: V1v, 2: V1d}}")
    label_N = np.round(label_N).astype(np.int64)
    unnamed = sorted(set(np.unique(label_N[label_N > 0]).tolist()) - set(names))
    if unnamed:
        raise DataError(f"labels: {given['map']} has label {unnamed[0]}, which has no name; named are {sorted(names)[:20]}")
    return label_N, names
