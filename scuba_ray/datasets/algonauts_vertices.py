"""Which vertices of the Algonauts 2023 challenge are read, and what is known of each; left hemisphere first."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets.algonauts_folder import AlgonautsFolder
from scuba_ray.datasets.checks import VOXELS, Problems
from scuba_ray.datasets.fsaverage import VERTICES, nearest_of_fsaverage5
from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.masks import Mask, evaluate, is_file
from scuba_ray.datasets.places import below
from scuba_ray.datasets.stored_array import open_npy
from scuba_ray.errors import ConfigError, DataError

ALL = "all"
"""The mask of all vertices."""
_REGIONS = ("floc-bodies", "floc-faces", "floc-places", "floc-words", "prf-visualrois")
_CATEGORY = "floc-"
Columns = npt.NDArray[np.int64]


class Vertices:
    """The vertices of one subject. Raises DataError if the files that say which they are do not fit."""

    def __init__(self, folder: AlgonautsFolder) -> None:
        self._folder = folder
        folder.check_sides()
        self._vertices = {hemi: folder.vertices(hemi) for hemi in HEMISPHERES}

    def count(self, hemi: str) -> int:
        """Columns of a hemisphere's responses."""
        return len(self._vertices[hemi])

    def by_hemisphere(self, column_V: Columns) -> dict[str, Columns]:
        """Columns of both hemispheres together (rising) as columns of each one's file."""
        left = self.count("lh")
        return {"lh": column_V[column_V < left], "rh": column_V[column_V >= left] - left}

    def columns(self, mask: str) -> Columns:
        """The columns of a mask expression, rising.

        Raises
        ------
        ConfigError
            If the expression cannot be read or names a label that is not there.
        DataError
            If a file is missing or does not fit, or no vertex is left.
        """
        column_V = np.flatnonzero(evaluate(mask, self._term))
        if not len(column_V):
            raise DataError(f"mask {mask!r} holds no vertex of {self._folder.path.name}")
        return column_V

    def table(self, column_V: Columns, regions: list[list[str]]) -> pa.Table:
        """The table of `SubjectDataset.voxels` for some columns; `regions` are those of all columns."""
        vertex_V = np.concatenate(list(self._vertices.values()))[column_V]
        right_V = column_V >= self.count("lh")
        nearest_V = np.where(right_V, nearest_of_fsaverage5("rh")[vertex_V], nearest_of_fsaverage5("lh")[vertex_V])
        columns: dict[str, Any] = {field.name: pa.nulls(len(vertex_V), field.type) for field in VOXELS}
        columns |= {
            "voxel_id": pa.array(vertex_V + VERTICES * right_V, pa.int64()),
            "hemi": pa.array([HEMISPHERES[int(right)] for right in right_V]),
            "vertex": pa.array(nearest_V, pa.int32()),
            "rois": pa.array([regions[column] for column in column_V], pa.list_(pa.string())),
            "ncsnr": self._ncsnr(column_V),
        }
        return pa.table([columns[name] for name in VOXELS.names], schema=VOXELS)

    def _term(self, word: str) -> Mask:
        count = sum(len(vertices) for vertices in self._vertices.values())
        if word == ALL:
            return np.ones(count, bool)
        if is_file(word):
            path = below(self._folder.path.parent, word)
            array = np.asarray(open_npy(path))
            if array.shape != (count,):
                raise DataError(f"{path} has shape {array.shape}, wanted ({count},): the left columns, then the right ones")
            return np.asarray(array.astype(np.float64) > 0)
        collection, _, wanted = word.partition(":")
        label_V = self._folder.labels(collection)
        if not wanted:
            return np.asarray(label_V > 0)
        numbers = {name: number for number, name in self._folder.names(collection).items()}
        unknown = [name for name in wanted.split(",") if name not in numbers]
        if unknown:
            raise ConfigError(f"mask term {word!r}: {collection} has no label {unknown[0]!r}; it has {', '.join(numbers)}")
        return np.isin(label_V, [numbers[name] for name in wanted.split(",")])

    def regions(self, rois: list[str] | None) -> list[list[str]]:
        """Names of the regions of each column; one in a localiser's region is also in its category (`floc-faces`).

        `rois` are collections of regions, none takes the usual ones. DataError names every file that is missing or does not fit.
        """
        there = self._folder.collections()
        names = [one for one in _REGIONS if one in there] if rois is None else rois
        tables, labels, problems = dict[str, dict[int, str]](), dict[str, Columns](), Problems()
        for one in names:
            with problems.collected():
                tables[one], labels[one] = self._folder.names(one), self._folder.labels(one)
        problems.tell()
        used = Counter(label for table in tables.values() for label in table.values())
        regions_C: list[list[str]] = [[] for _ in range(sum(map(len, self._vertices.values())))]
        for collection, table in tables.items():
            category = [collection] if collection.startswith(_CATEGORY) else []
            for column in np.flatnonzero(labels[collection] > 0):
                name = table[int(labels[collection][column])]
                regions_C[column] += [*category, name if used[name] == 1 else f"{collection}:{name}"]
        return regions_C

    def _ncsnr(self, column_V: Columns) -> pa.Array:
        """sqrt(c / (1 - c)) of the noise ceilings c: with one trial per image they come out again as the ceilings."""
        if not self._folder.has_ceilings():
            return pa.nulls(len(column_V), pa.float32())
        parts = []
        for hemi, vertex_V in self._vertices.items():
            path = self._folder.ceiling(hemi)
            ceiling_V = np.asarray(open_npy(path)).astype(np.float64)
            if ceiling_V.shape != vertex_V.shape or np.nanmin(ceiling_V) < 0 or np.nanmax(ceiling_V) >= 1:
                raise DataError(
                    f"{path} has shape {ceiling_V.shape} and values up to {np.nanmax(ceiling_V):g}, wanted {vertex_V.shape}, a "
                    "share of variance (0 to 1) per column of the responses"
                )
            parts.append(np.sqrt(ceiling_V / (1 - ceiling_V)))
        ncsnr_V = np.concatenate(parts)[column_V].astype(np.float32)
        return pa.array(ncsnr_V, mask=~np.isfinite(ncsnr_V))
