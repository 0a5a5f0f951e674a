"""A subject's responses in one file or many: sessions one after the other, hemispheres side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.places import Place, below, matching
from scuba_ray.datasets.response_files import ArrayFile, ResponseFile, open_responses, split_key
from scuba_ray.errors import ConfigError, DataError

ORIENTATIONS = {"auto": None, "trials-first": 0, "voxels-first": 1}
Given = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""Responses as they are given: a file or pattern, several, or those of each hemisphere."""


@dataclass(frozen=True)
class ResponseSeries:
    """All trials: `parts` are hemispheres, or the one part there is; each is files in the order of the trials."""

    parts: tuple[tuple[ResponseFile, ...], ...]
    by_hemisphere: bool

    @property
    def files(self) -> list[ResponseFile]:
        """All files."""
        return [file for part in self.parts for file in part]

    @property
    def counts(self) -> list[int]:
        """Trials of each file of a part."""
        return [file.trials for file in self.parts[0]]

    @property
    def places(self) -> list[int]:
        """Places of each part."""
        return [int(np.prod(part[0].shape)) for part in self.parts]

    def read(self, row_T: npt.NDArray[np.int64], place_V: npt.NDArray[np.int64], memory: int) -> npt.NDArray[np.float32]:
        """Some trials (T, V), rising, at some places, rising (left before right), float32; `memory` bytes besides."""
        read_TV = np.empty((len(row_T), len(place_V)), np.float32)
        first_place = 0
        for part, places in zip(self.parts, self.places, strict=True):
            columns = np.flatnonzero((place_V >= first_place) & (place_V < first_place + places))
            first_row = 0
            for file in part:
                rows = np.flatnonzero((row_T >= first_row) & (row_T < first_row + file.trials))
                if len(rows) and len(columns):
                    block = file.read(row_T[rows] - first_row, place_V[columns] - first_place, memory)
                    read_TV[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = block
                first_row += file.trials
            first_place += places
        return read_TV


def open_parts(root: Place, given: Given) -> tuple[tuple[ResponseFile, ...], ...]:
    """Open all files; patterns (`*`, `?`, `[`) are sorted as people count: session 2 before session 10.

    Raises
    ------
    ConfigError, DataError
        If there is no such file, or one cannot be read; all of them are named.
    """
    if isinstance(given, Mapping):
        if set(given) != set(HEMISPHERES):
            raise ConfigError(f"responses by hemisphere are wanted as lh and rh, got {', '.join(given) or 'nothing'}")
        return tuple(_open(root, given[hemi]) for hemi in HEMISPHERES)
    return (_open(root, given),)


def _open(root: Place, given: str | Sequence[str]) -> tuple[ResponseFile, ...]:
    places = [place for one in ([given] if isinstance(given, str) else given) for place in _matching(root, one)]
    opened, refused = [], []
    for path, key in places:
        try:
            opened.append(open_responses(path, key))
        except DataError as error:
            refused.append(str(error))
    if refused:
        raise DataError("\n".join(refused))
    if not opened:
        raise ConfigError("responses: no file is given")
    return tuple(opened)


def _matching(root: Place, given: str) -> list[tuple[Place, str | None]]:
    name, key = split_key(given)
    if not set(name) & set("*?["):
        return [(below(root, name), key)]
    found = sorted(
        matching(root, name),
        key=lambda one: [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", str(one))],
    )
    if not found:
        raise DataError(f"responses: no file is called {below(root, name)}")
    return [(one, key) for one in found]


def settled(parts: tuple[tuple[ResponseFile, ...], ...], trials: int, table: Place, orientation: str) -> ResponseSeries:
    """Hold the files against each other and the number of trials; arrays are turned so that trials come first.

    Raises
    ------
    ConfigError
        If an array could be either way round.
    DataError
        If trials do not add up, or files of one part differ in shape; files are named.
    """
    axis = ORIENTATIONS[orientation]
    done = tuple(_turned(part, trials, table, axis) for part in parts)
    for part in done:
        for file in part:
            if file.shape != part[0].shape:
                raise DataError(
                    f"{file.path} has {_size(file.shape)} values a trial, {part[0].path.name} has {_size(part[0].shape)}: is it "
                    "of another subject?"
                )
        total = sum(file.trials for file in part)
        if total != trials:
            each = ", ".join(f"{file.path.name} {file.trials}" for file in part[:8]) + (", ..." if len(part) > 8 else "")
            raise DataError(
                f"{table} has {trials} trials, but responses have {total}: {each}; wanted one row per trial, in order"
            )
        counts = [(file.trials, other.trials) for file, other in zip(part, done[0], strict=False)]
        if len(part) != len(done[0]) or any(one != other for one, other in counts):
            raise DataError(f"{part[0].path} and {done[0][0].path}: hemispheres differ in their files or trials")
    return ResponseSeries(done, len(parts) > 1)


def _turned(part: tuple[ResponseFile, ...], trials: int, table: Place, axis: int | None) -> tuple[ResponseFile, ...]:
    arrays = [file for file in part if isinstance(file, ArrayFile) and file.trials_axis is None]
    if not arrays:
        return part
    if axis is None:
        sums = [sum(int(file.array.shape[one]) for file in arrays) for one in (0, 1)]
        others = [{int(file.array.shape[1 - one]) for file in arrays} for one in (0, 1)]
        fitting = [one for one in (0, 1) if sums[one] == trials and len(others[one]) == 1]
        shapes = ", ".join(f"{file.path.name} {tuple(file.array.shape)}" for file in arrays[:8])
        if len(fitting) == 2:
            raise ConfigError(
                f"{shapes}: rows and columns both fit the {trials} trials of {table.name}; say which are trials with the option "
                "orientation: trials-first or voxels-first"
            )
        if not fitting:
            raise DataError(
                f"{table} has {trials} trials, but neither rows nor columns of {arrays[0].path.parent} add up to it: {shapes}"
            )
        (axis,) = fitting
    return tuple(replace(file, trials_axis=axis) if file in arrays else file for file in part)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
