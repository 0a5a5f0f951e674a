"""Maps on a surface as GIfTI: a file of numbers and one of regions for each hemisphere, and the same as arrays for pycortex.

Where several voxels fall on one vertex a number is their mean, and the regions are those of the voxel with the best R2 (the first
in the table where R2 are equal or unknown). The rule is in the files' metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scuba_ray.errors import DataError
from scuba_ray.report.export_maps import DESCRIPTIONS, Exported

if TYPE_CHECKING:
    from pathlib import Path

HEMISPHERES = {"lh": ("L", "CortexLeft"), "rh": ("R", "CortexRight")}
"""BIDS' letter and GIfTI's name of a hemisphere."""
MEAN = "mean of the voxels on the vertex; NaN where there is none"
BEST = "regions of the voxel with the best R2 among those on the vertex; 0 where there is none or it has no region"
COUNT = "voxels"
"""Name of the map that says how many voxels a vertex has."""
FIRST = "first region"
"""Name of the array of labels that holds each voxel's first region; one array per region follows."""
Numbers = dict[str, npt.NDArray[np.float32]]
Labels = dict[str, npt.NDArray[np.int32]]


def on_vertices(one: Exported, hemi: str, vertices: int) -> tuple[Numbers, Labels]:
    """Maps (N,) of a hemisphere with N vertices, and its labels: numbers of regions as in `region_keys`, 0 where none is.

    Raises
    ------
    DataError
        If a voxel lies at a vertex that the surface lacks.
    """
    hemi_V = np.array(one.voxels["hemi"].to_pylist(), object)
    vertex_V = one.voxels["vertex"].fill_null(-1).to_numpy()
    row_n = np.flatnonzero((hemi_V == hemi) & (vertex_V >= 0))
    vertex_n = vertex_V[row_n]
    if (vertex_n >= vertices).any():
        raise DataError(
            f"{one.subject} has a voxel at vertex {vertex_n.max()} of {hemi}, but its data set's surface has {vertices}: "
            "is the data set still the one that the run was made of?"
        )
    numbers: Numbers = {name: _means(values_V[row_n], vertex_n, vertices) for name, values_V in one.values.items()}
    numbers[COUNT] = np.bincount(vertex_n, minlength=vertices).astype(np.float32)
    r2_n = np.nan_to_num(one.values["r2"][row_n], nan=-np.inf) if "r2" in one.values else np.zeros(len(row_n))
    best: dict[int, int] = {}
    for place in np.argsort(-r2_n, kind="stable").tolist():
        best.setdefault(int(vertex_n[place]), int(row_n[place]))
    regions = region_keys(one.colours)
    labels: Labels = {name: np.zeros(vertices, np.int32) for name in (FIRST, *regions)}
    rois = one.rois
    for vertex, row in best.items():
        for name in rois[row]:
            labels[name][vertex] = regions[name]
        if rois[row]:
            labels[FIRST][vertex] = regions[rois[row][0]]
    return numbers, labels


def region_keys(colours: Mapping[str, str]) -> dict[str, int]:
    """The number of each region in labels, from 1."""
    return {name: number for number, name in enumerate(colours, 1)}


def write_numbers(path: Path, hemi: str, space: str, numbers: Numbers) -> None:
    """A `.func.gii`: one float32 array per map, called by its name."""
    import nibabel

    described = {**DESCRIPTIONS, COUNT: "number of voxels on the vertex"}
    arrays = []
    for name, values_N in numbers.items():
        meta = {"Name": name, "Description": described[name], "VertexRule": MEAN if name != COUNT else COUNT}
        arrays.append(_array(values_N, "NIFTI_INTENT_NONE", "NIFTI_TYPE_FLOAT32", meta))
    nibabel.save(nibabel.GiftiImage(darrays=arrays, meta=_meta(hemi, space, MEAN)), path)


def write_labels(path: Path, hemi: str, space: str, labels: Labels, colours: Mapping[str, str]) -> None:
    """A `.label.gii`: each voxel's first region, then an array per region; the report's colours and names."""
    import nibabel

    table = nibabel.gifti.GiftiLabelTable()
    for key, name, colour in ((0, "???", None), *((key, name, colours[name]) for name, key in region_keys(colours).items())):
        channels = (0.0, 0.0, 0.0, 0.0) if colour is None else (*(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)), 1.0)
        label = nibabel.gifti.GiftiLabel(key, *channels)
        label.label = name
        table.labels.append(label)
    arrays = [
        _array(keys_N, "NIFTI_INTENT_LABEL", "NIFTI_TYPE_INT32", {"Name": name, "VertexRule": BEST})
        for name, keys_N in labels.items()
    ]
    nibabel.save(nibabel.GiftiImage(darrays=arrays, labeltable=table, meta=_meta(hemi, space, BEST)), path)


def write_vertices(path: Path, sides: Sequence[Numbers], nearest: Sequence[npt.NDArray[np.int32]] | None) -> None:
    """An `.npz`: every map of both hemispheres, left before right, as `cortex.Vertex` takes them.

    `nearest`, for fsaverage5: of each hemisphere the vertex that stands for each one of fsaverage; saved for both as one
    array `to_fsaverage` (327684,) of places in the maps.
    """
    arrays: dict[str, Any] = {name: np.concatenate([side[name] for side in sides]) for name in sides[0]}
    if nearest is not None:
        arrays["to_fsaverage"] = np.concatenate([nearest[0], nearest[1] + len(sides[0][COUNT])])
    np.savez_compressed(path, **arrays)


def _means(values_n: npt.NDArray[np.float32], vertex_n: npt.NDArray[np.int64], vertices: int) -> npt.NDArray[np.float32]:
    """Mean of the known values on each vertex, NaN where there is none."""
    known_n = ~np.isnan(values_n)
    count_N = np.bincount(vertex_n[known_n], minlength=vertices)
    sum_N = np.bincount(vertex_n[known_n], values_n[known_n].astype(np.float64), minlength=vertices)
    mean_N: npt.NDArray[np.float32] = np.where(count_N > 0, sum_N / np.maximum(count_N, 1), np.nan).astype(np.float32)
    return mean_N


def _array(values_N: npt.NDArray[Any], intent: str, kind: str, meta: Mapping[str, str]) -> Any:
    from nibabel.gifti import GiftiDataArray, GiftiMetaData

    return GiftiDataArray(values_N, intent=intent, datatype=kind, encoding="GIFTI_ENCODING_B64GZ", meta=GiftiMetaData(meta))


def _meta(hemi: str, space: str, rule: str) -> Any:
    from nibabel.gifti import GiftiMetaData

    return GiftiMetaData({"AnatomicalStructurePrimary": HEMISPHERES[hemi][1], "Space": space, "VertexRule": rule})
