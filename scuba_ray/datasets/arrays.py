"""The `arrays` layout: responses as one memory-mapped array, everything else as small Parquet tables.

PATH/dataset.json      {"layout": "arrays", "version": 1, "subject": "...", "geometry": "fsaverage5" or null}
PATH/stimuli.parquet   stimulus_id, uri (below images/), split (train | test); caption may be there
PATH/images/           the pictures
PATH/trials.parquet    trial 0, 1, ... in the row order of the responses, stimulus_id, session
PATH/voxels.parquet    voxel_id, and where known hemi (lh | rh), vertex, i, j, k, xyz, rois, ncsnr
PATH/responses.npy     (T, V) float32: single trials by voxels, NaN where missing

Where i, j, k are indices (from 0) into a volume, dataset.json may say which, and maps are then exported as NIfTI too:

    "grid": {"shape": [X, Y, Z], "affine": [[...], [...], [...], [0, 0, 0, 1]], "space": "T1w"}

The affine, four rows of four, takes indices to scanner millimetres, larger x to the right, as a NIfTI header of that volume has
it (indices may run to the left: LAS); `space` is what files are to call it, letters and digits, `native` if not given. Where
voxels.parquet has no xyz it is filled from it. With hemi and vertex a voxel of a volume is drawn on the surface as well.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.datasets.checks import (
    STIMULI,
    TRIALS,
    VOXELS,
    Problems,
    check_splits,
    check_trials,
    check_unique,
    check_voxels,
    data_folder,
    read_table,
)
from scuba_ray.datasets.content import file_digest, text_digest
from scuba_ray.datasets.geometry import fsaverage5
from scuba_ray.datasets.images import FolderImages
from scuba_ray.datasets.places import Place
from scuba_ray.datasets.stored_array import open_npy
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Geometry, Grid, Pictures
from scuba_ray.tables.columns import vectors

VERSION = 1
_FLOATS = ("float16", "float32", "float64")


class ArraysDataset:
    """One subject in the `arrays` layout. Opening checks the tables against each other; responses are read when asked for.

    Picklable: only the location travels, a worker opens the files anew. A picture that is missing is found when it is read.

    Raises
    ------
    ConfigError
        If `path` holds no data set, or one in another layout.
    DataError
        If a file is missing or damaged, or tables and responses do not fit each other; all that is wrong, a line each.
    """

    def __init__(self, subject: str, path: str) -> None:
        self.subject = subject
        self._path = path
        self._folder = data_folder(path)
        self._description = _describe(self._folder)
        self._grid = _grid(self._folder / "dataset.json", self._description.get("grid"))
        problems = Problems()
        with problems.collected():
            self._stimuli = self._read_stimuli()
        with problems.collected():
            self._trials = read_table(self._folder / "trials.parquet", TRIALS, tuple(TRIALS.names))
        with problems.collected():
            self._voxels = self._read_voxels()
        with problems.collected():
            self._check_type()
        with problems.collected():
            if not (self._folder / "images").is_dir():
                raise DataError(f"the folder images/ is missing in {self._folder}")
        problems.tell()
        with problems.collected():
            check_trials(self._folder / "trials.parquet", self._trials, self._stimuli)
        with problems.collected():
            self._check_shape()
        problems.tell()

    def __reduce__(self) -> tuple[type[ArraysDataset], tuple[str, str]]:
        return type(self), (self.subject, self._path)

    def fingerprint(self) -> str:
        """Of the tables, the responses and the pictures' names, sizes and a sample of their bytes; not of their location."""
        names = ("dataset.json", "stimuli.parquet", "trials.parquet", "voxels.parquet", "responses.npy")
        return text_digest(*(file_digest(self._folder / name) for name in names), self.images().fingerprint())

    def stimuli(self) -> pa.Table:
        """Columns stimulus_id, uri, split, caption (null where there is none)."""
        return self._stimuli

    def images(self) -> Pictures:
        """The pictures, by the `uri` of `stimuli()`."""
        return FolderImages(str(self._folder / "images"))

    def trials(self) -> pa.Table:
        """Columns trial, stimulus_id, session, in the row order of the responses."""
        return self._trials

    def voxels(self) -> pa.Table:
        """Columns voxel_id, hemi, vertex, i, j, k, xyz, rois, ncsnr, in the column order of the responses."""
        return self._voxels

    def read_session(self, session: int) -> np.ndarray:
        """Single-trial responses (T_s, V) of a session, float32. Other sessions' rows of the file are not read."""
        rows_T = np.flatnonzero(self._trials["session"].to_numpy() == session)
        responses_TV: np.ndarray = self._responses[rows_T].astype(np.float32, copy=False)
        return responses_TV

    def geometry(self) -> Geometry | None:
        """The surface the vertices belong to, where there is one."""
        return fsaverage5() if self._description["geometry"] == "fsaverage5" else None

    def grid(self) -> Grid | None:
        """The volume that dataset.json says i, j, k lie in."""
        return self._grid

    @cached_property
    def _responses(self) -> Any:
        return open_npy(self._folder / "responses.npy")

    def _read_stimuli(self) -> pa.Table:
        path = self._folder / "stimuli.parquet"
        stimuli = read_table(path, STIMULI, ("stimulus_id", "uri", "split"))
        check_unique(path, stimuli, "stimulus_id")
        check_splits(path, stimuli)
        return stimuli

    def _read_voxels(self) -> pa.Table:
        path = self._folder / "voxels.parquet"
        voxels = read_table(path, VOXELS, ("voxel_id",))
        voxels = check_voxels(path, voxels, on_fsaverage5=self._description["geometry"] == "fsaverage5")
        return voxels if self._grid is None else _placed(path, voxels, self._grid)

    def _check_type(self) -> None:
        array, path = self._responses, self._folder / "responses.npy"
        if array.dtype.name not in _FLOATS:
            raise DataError(f"{path} holds {array.dtype}, wanted float32 (NSD's int16 volumes are to be divided by 300 first)")
        if array.ndim != 2:
            raise DataError(f"{path} has shape {array.shape}, wanted (trials, voxels)")

    def _check_shape(self) -> None:
        path, (trials, voxels) = self._folder / "responses.npy", self._responses.shape
        if trials != len(self._trials):
            raise DataError(f"{path} has {trials} rows, but trials.parquet has {len(self._trials)}: one row per trial is wanted")
        if voxels != len(self._voxels):
            raise DataError(
                f"{path} has {voxels} columns, but voxels.parquet has {len(self._voxels)} rows: one column per voxel is wanted"
            )


def _describe(folder: Place) -> dict[str, Any]:
    """Read and check dataset.json."""
    path = folder / "dataset.json"
    if not folder.is_dir():
        raise ConfigError(f"no data set at {folder}: there is no such folder")
    if not path.is_file():
        raise ConfigError(f"no data set in the `arrays` layout at {folder}: dataset.json is missing")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(description, dict):
        raise DataError(f"{path} must hold a JSON object, got {type(description).__name__}")
    if description.get("layout") != "arrays":
        raise ConfigError(f"{path} says layout {description.get('layout')!r}, the configuration says 'arrays'")
    if description.get("version") != VERSION:
        raise DataError(f"{path} says version {description.get('version')!r} of the layout; this program reads version {VERSION}")
    if description.setdefault("geometry", None) not in {None, "fsaverage5"}:
        raise DataError(f"{path}: geometry must be 'fsaverage5' or null, got {description['geometry']!r}")
    return description


def _grid(path: Place, said: Any) -> Grid | None:
    """The volume that `grid` of dataset.json describes."""
    if said is None:
        return None
    wanted = f'{path}: grid must be {{"shape": [X, Y, Z], "affine": four rows of four numbers, "space": "native"}}'
    if not isinstance(said, dict) or not said.keys() >= {"shape", "affine"} or said.keys() - {"shape", "affine", "space"}:
        raise DataError(f"{wanted}, got {json.dumps(said)}")
    shape, space = said["shape"], said.get("space", "native")
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        raise DataError(f"{wanted}, got shape {shape}")
    try:
        affine = np.array(said["affine"], np.float64)
    except (TypeError, ValueError):
        affine = np.empty(0)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or affine[3].tolist() != [0, 0, 0, 1]:
        raise DataError(f"{wanted} with the last row 0 0 0 1, got affine {said['affine']}")
    if np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise DataError(f"{path}: the affine of grid takes different voxels to the same place: {said['affine']}")
    if not isinstance(space, str) or not re.fullmatch("[A-Za-z0-9]+", space):
        raise DataError(f"{path}: grid.space names files and must be letters and digits, got {space!r}")
    return Grid(space, (shape[0], shape[1], shape[2]), affine)


def _placed(path: Place, voxels: pa.Table, grid: Grid) -> pa.Table:
    """The table with xyz where it was not given.

    Raises
    ------
    DataError
        If a voxel lies outside of the grid, or where another one does: a map has one number there.
    """
    ijk_V3 = np.stack([voxels[name].fill_null(-1).to_numpy() for name in "ijk"], axis=1)
    is_known_V: npt.NDArray[np.bool_] = np.logical_and.reduce([voxels[name].is_valid().to_numpy() for name in "ijk"])
    is_outside_V = is_known_V & ((ijk_V3 < 0) | (ijk_V3 >= grid.shape)).any(axis=1)
    if is_outside_V.any():
        voxel, place = voxels["voxel_id"][int(is_outside_V.argmax())], ijk_V3[is_outside_V][0].tolist()
        raise DataError(
            f"{path}: voxel {voxel} lies at {place}, outside of the grid of dataset.json with shape {list(grid.shape)}"
        )
    places_n3, counts_n = np.unique(ijk_V3[is_known_V], axis=0, return_counts=True)
    if (counts_n > 1).any():
        raise DataError(f"{path}: {counts_n.max()} voxels lie at {places_n3[counts_n.argmax()].tolist()}; one is wanted")
    xyz_V3 = (ijk_V3 @ grid.affine[:3, :3].T + grid.affine[:3, 3]).astype(np.float32)
    filled = pc.coalesce(voxels["xyz"], vectors(xyz_V3, is_known_V))
    return voxels.set_column(voxels.column_names.index("xyz"), "xyz", filled)
