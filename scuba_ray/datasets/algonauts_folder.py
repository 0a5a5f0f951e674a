"""Files of one subject of the Algonauts 2023 challenge: pictures by number, responses and labels by hemisphere, checked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.fsaverage import VERTICES
from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.label_names import read_label_names
from scuba_ray.datasets.places import Place
from scuba_ray.datasets.stored_array import open_npy
from scuba_ray.errors import ConfigError, DataError

SUBJECTS = {f"subj{number:02d}": count for number, count in enumerate((9841, 9841, 9082, 8779, 9841, 9082, 9841, 8779), 1)}
"""The challenge's subjects, and how many training images each has."""
COLUMNS = {(19004, 20544), (18978, 20220), (18981, 20530)}
"""Vertices of the challenge's left and right hemispheres: of all subjects but 6, of 6, of 8 (where betas are missing)."""
_PICTURE = re.compile(r"(train|test)-(\d+)_nsd-(\d+)\.png")
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class AlgonautsFolder:
    """One subject's folder.

    Raises
    ------
    ConfigError
        If there is no such folder, or no training split in it.
    """

    path: Place

    def __post_init__(self) -> None:
        if not (self.path / "training_split").is_dir():
            there = ", ".join(sorted(one.parent.name for one in self.path.parent.glob("*/training_split"))) or "none"
            raise ConfigError(
                f"no subject of Algonauts 2023 at {self.path}: wanted its folder training_split. `path` is the folder that holds "
                f"subj01, subj02, ...; subjects there: {there}"
            )

    def responses(self, split: str) -> dict[str, Place]:
        """Files of responses by hemisphere; `split` is `training` or `test`."""
        return {hemi: self.path / f"{split}_split/{split}_fmri/{hemi}_{split}_fmri.npy" for hemi in HEMISPHERES}

    def ceiling(self, hemi: str) -> Place:
        """Noise ceilings of a hemisphere's vertices, published after the challenge."""
        return self.path / f"test_split/noise_ceiling/{hemi}_noise_ceiling.npy"

    def has_ceilings(self) -> bool:
        """Whether the noise ceilings of both hemispheres are there."""
        return all(self.ceiling(hemi).is_file() for hemi in HEMISPHERES)

    def pictures(self, split: str) -> dict[int, str]:
        """NSD's number (from 0) and relative path of each picture, in the row order of the responses.

        Raises
        ------
        DataError
            If pictures are missing, numbered twice or with gaps, or one of NSD's images is there twice.
        """
        folder = self.path / f"{split}_split/{split}_images"
        names = sorted(path.name for path in folder.glob("*.png"))
        matches = [match for name in names if (match := _PICTURE.fullmatch(name)) and match[1] == split.removesuffix("ing")]
        if not matches:
            first = f"{split.removesuffix('ing')}-0001_nsd-00013.png"
            raise DataError(f"no pictures such as {first} in {folder}; it has {', '.join(names[:3]) or 'no .png'}")
        matches.sort(key=lambda match: int(match[2]))
        rows = [int(match[2]) for match in matches]
        if rows != list(range(1, len(rows) + 1)):
            twice = [row for row, count in Counter(rows).items() if count > 1]
            missing = sorted(set(range(1, max(rows) + 1)) - set(rows))
            wrong = f"number {twice[0]} is there twice" if twice else f"number {missing[0] if missing else min(rows)} is missing"
            raise DataError(f"{folder}: pictures must be numbered 1 to {len(rows)}, a row of responses each, but {wrong}")
        images = [int(match[3]) for match in matches]
        twice = [image for image, count in Counter(images).items() if count > 1]
        if twice:
            both = [match[0] for match in matches if int(match[3]) == twice[0]]
            raise DataError(f"{folder}: NSD's image {twice[0]} is there more than once ({', '.join(both)}); wanted each once")
        return {image: f"{split}_split/{split}_images/{match[0]}" for image, match in zip(images, matches, strict=True)}

    def vertices(self, hemi: str) -> npt.NDArray[np.int64]:
        """Vertices of fsaverage that the challenge uses, rising; column v of the responses is the v-th of them."""
        return np.flatnonzero(self._labels(f"{hemi}.all-vertices_fsaverage_space.npy", VERTICES) > 0)

    def check_sides(self) -> None:
        """Raise DataError if the hemispheres have each other's numbers of vertices, as the challenge's own are known."""
        left, right = (len(self.vertices(hemi)) for hemi in HEMISPHERES)
        if (right, left) in COLUMNS:
            raise DataError(
                f"hemispheres are swapped in {self.path / 'roi_masks'}: lh.all-vertices_fsaverage_space.npy has {left} vertices, "
                f"rh.all-vertices_fsaverage_space.npy {right}; the challenge's left hemisphere has {right}"
            )

    def collections(self) -> list[str]:
        """Collections of regions that have a table of names."""
        return sorted(path.stem.removeprefix("mapping_") for path in (self.path / "roi_masks").glob("mapping_*.npy"))

    def names(self, collection: str) -> dict[int, str]:
        """Names of a collection's labels, 0 left out."""
        if collection not in self.collections():
            there = ", ".join(self.collections()) or "nothing"
            raise DataError(
                f"no regions {collection!r}: mapping_{collection}.npy is missing in {self.path / 'roi_masks'}; there is {there}"
            )
        return read_label_names(self.path / f"roi_masks/mapping_{collection}.npy")

    def labels(self, collection: str) -> npt.NDArray[np.int64]:
        """Label of each column of the responses, the left hemisphere's before the right's; 0 (or less) is no region.

        Raises
        ------
        DataError
            If a file is missing, damaged or of another subject or hemisphere, or holds a label without a name.
        """
        names, parts = self.names(collection), []
        for hemi in HEMISPHERES:
            vertex_V = self.vertices(hemi)
            label_V = self._labels(f"{hemi}.{collection}_challenge_space.npy", len(vertex_V))
            whole = f"{hemi}.{collection}_fsaverage_space.npy"
            if (self.path / "roi_masks" / whole).is_file():
                differ = int((self._labels(whole, VERTICES)[vertex_V] != label_V).sum())
                if differ:
                    raise DataError(
                        f"{self.path / 'roi_masks' / whole} and {hemi}.{collection}_challenge_space.npy differ at {differ} of "
                        f"{len(vertex_V)} vertices: is one of them of another subject or hemisphere?"
                    )
            unnamed = set(np.unique(label_V[label_V > 0]).tolist()) - set(names)
            if unnamed:
                raise DataError(
                    f"{self.path / 'roi_masks'}/{hemi}.{collection}_challenge_space.npy has a label {min(unnamed)} that "
                    f"mapping_{collection}.npy does not name; it names {sorted(names)}"
                )
            parts.append(label_V)
        return np.concatenate(parts)

    def _labels(self, name: str, wanted: int) -> npt.NDArray[np.int64]:
        path = self.path / "roi_masks" / name
        array = np.asarray(open_npy(path))
        if array.shape != (wanted,):
            what = "one value per vertex of fsaverage" if wanted == VERTICES else "one value per column of the responses"
            raise DataError(
                f"{path} has shape {array.shape}, wanted ({wanted},): {what}. Is it of another subject or hemisphere?"
            )
        return array.astype(np.int64)


def open_responses(path: Place, images: int, vertices: int) -> Any:
    """Responses (images, vertices), left where they are.

    Raises
    ------
    DataError
        If the file is not readable, or has another shape or type.
    """
    array = open_npy(path)
    if array.dtype.name not in _FLOATS:
        raise DataError(f"{path} holds {array.dtype}, wanted float32")
    if array.ndim != 2 or array.shape != (images, vertices):
        hint = ""
        if array.shape == (vertices, images):
            hint = ": its axes are swapped"
        elif array.ndim == 2 and array.shape[0] == images:
            hint = ": is it of the other hemisphere, or of another subject?"
        elif array.ndim == 2 and array.shape[1] == vertices:
            hint = ": are all pictures there?"
        raise DataError(
            f"{path} has shape {array.shape}, wanted ({images}, {vertices}): a row per picture, a column per vertex in "
            f"{path.name[:2]}.all-vertices_fsaverage_space.npy{hint}"
        )
    return array
