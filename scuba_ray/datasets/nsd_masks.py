"""Which voxels are read and which regions they belong to: mask expressions, "higher visual", and names from colour tables.

A mask expression joins terms by ` + ` (and), ` - ` (without) and ` & ` (only within), from left to right:

    floc-faces + floc-places - prf-visualrois     collections of regions: where a voxel has any label of it
    streams:ventral,lateral                       labels of a collection, by the names in its colour table
    hcp-reliable:45                               the areas of HCP_MMP1 with the highest noise ceilings
    masks/mine.nii.gz                             a mask file (NIfTI or .npy) below NSD's root, or anywhere: larger than 0

`higher-visual` is BrainSCUBA's: all localiser regions, food where there are regions called food (NSD itself has none), and the
45 most reliable HCP areas, without V1 to hV4. The published list of areas is not part of NSD, so the areas are found here: those
with the highest mean noise ceiling by the subject's ncsnr.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.masks import Mask, evaluate, is_file
from scuba_ray.datasets.nsd_folder import NsdFolder, read_colour_table
from scuba_ray.datasets.nsd_space import Floats, Space
from scuba_ray.datasets.places import below
from scuba_ray.errors import ConfigError, DataError

HIGHER_VISUAL = "higher-visual"
LOCALISERS = {"floc-bodies": "bodies", "floc-faces": "faces", "floc-places": "places", "floc-words": "word"}
"""Collections drawn from the localiser, and the contrast in the name of each one's t map."""
EARLY, FOOD, ATLAS = "prf-visualrois", "food", "HCP_MMP1"
RELIABLE = 45
"""HCP areas that are counted as reliable (BrainSCUBA)."""
_REPEATS = 3


class Masks:
    """Masks and regions of one subject in one space.

    Parameters
    ----------
    threshold : float or None
        A category (`floc-faces` as a region's name) is where the voxel has one of its labels and t is larger than this; none
        takes the labels alone. Single regions (`FFA-1`) are as NSD drew them.
    """

    def __init__(self, folder: NsdFolder, space: Space, threshold: float | None) -> None:
        self._folder, self._space, self._threshold = folder, space, threshold

    def mask(self, expression: str) -> Mask:
        """The voxels of a mask expression, (N,) bool.

        Raises
        ------
        ConfigError
            If the expression cannot be read.
        DataError
            If a file is missing or does not fit, or no voxel is left.
        """
        if expression == HIGHER_VISUAL:
            expression = self._higher_visual()
        inside_N = evaluate(expression, self._term)
        if not inside_N.any():
            raise DataError(f"mask {expression!r} holds no voxel of {self._folder.name}")
        return inside_N

    def regions(self, names: list[str] | None, index_V: npt.NDArray[np.int64]) -> list[list[str]]:
        """Names of the regions of each voxel, from the collections `names`; none takes the localiser's, food and V1 to hV4.

        A label's name is its colour table's; where two of the collections use the same, `COLLECTION:NAME`. A voxel in any label
        of a localiser's collection is also in the category, called like the collection, if it passes the threshold.
        """
        if names is None:
            there = self._space.collections()
            names = [name for name in (*LOCALISERS, FOOD, EARLY) if name in there]
        tables = {name: self._names(name) for name in names}
        used = Counter([*names, *(label for table in tables.values() for label in table.values())])
        regions_V: list[list[str]] = [[] for _ in index_V]
        for collection, table in tables.items():
            shown = {number: name if used[name] == 1 else f"{collection}:{name}" for number, name in table.items()}
            if list(table.values()) == [collection]:
                shown = dict.fromkeys(table, collection)
            label_V = self._space.labels(collection).label_N[index_V]
            unnamed = set(np.unique(label_V[label_V > 0]).tolist()) - set(shown)
            if unnamed:
                raise DataError(f"{collection} has a label {min(unnamed)} that {collection}.mgz.ctab does not name")
            category_V = self._category(collection, label_V, index_V)
            for voxel in np.flatnonzero(label_V > 0):
                category = [collection] if category_V is not None and category_V[voxel] else []
                regions_V[voxel] += [*category, shown[int(label_V[voxel])]]
        return regions_V

    def _term(self, word: str) -> Mask:
        if is_file(word):
            return self._space.mask(below(self._folder.root, word))
        collection, _, wanted = word.partition(":")
        if collection == "hcp-reliable":
            if not re.fullmatch(r"[1-9]\d*", wanted):
                raise ConfigError(
                    f"mask term {word!r}: wanted hcp-reliable:N with a number of areas, such as hcp-reliable:{RELIABLE}"
                )
            return self._reliable(int(wanted))
        label_N = self._space.labels(collection).label_N
        if not wanted:
            return np.asarray(label_N > 0)
        numbers = {name: number for number, name in self._names(collection).items()}
        unknown = [name for name in wanted.split(",") if name not in numbers]
        if unknown:
            raise ConfigError(f"mask term {word!r}: {collection} has no label {unknown[0]!r}; it has {', '.join(numbers)}")
        return np.isin(label_N, [numbers[name] for name in wanted.split(",")])

    def _higher_visual(self) -> str:
        there = self._space.collections()
        terms = list(LOCALISERS)
        if FOOD in there:
            terms.append(FOOD)
        else:
            self._space.notes.append("higher-visual has no food regions: NSD has none, and no regions called food are there")
        missing = [ATLAS] if ATLAS not in there else []
        if self._space.ncsnr() is None:
            missing.append("ncsnr")
        if missing:
            self._space.notes.append(
                f"higher-visual is without the {RELIABLE} most reliable HCP areas: {' and '.join(missing)} missing"
            )
        else:
            terms.append(f"hcp-reliable:{RELIABLE}")
        return f"{' + '.join(terms)} - {EARLY}"

    def _reliable(self, count: int) -> Mask:
        label_N, ncsnr_N = self._space.labels(ATLAS).label_N, self._space.ncsnr()
        if ncsnr_N is None:
            raise DataError(f"hcp-reliable:{count} needs ncsnr beside the betas in {self._folder.betas}")
        return reliable_areas(label_N, ncsnr_N, count)

    def _names(self, collection: str) -> dict[int, str]:
        """Names of a collection's labels; a collection of one label without a colour table is called like its file."""
        folders = self._folder.labels()[::-1]
        path = next((one for folder in folders if (one := folder / f"{collection}.mgz.ctab").is_file()), None)
        if path is None:
            if self._space.labels(collection).label_N.max() <= 1:
                return {1: collection}
            places = " or ".join(str(folder) for folder in folders)
            raise DataError(f"the names of {collection} are missing: no {collection}.mgz.ctab in {places}")
        self._space.files[str(path)] = path
        return read_colour_table(path)

    def _category(self, collection: str, label_V: npt.NDArray[np.int32], index_V: npt.NDArray[np.int64]) -> Mask | None:
        """Which voxels belong to a localiser's category; None if the collection is no localiser's or its t map is missing."""
        if collection not in LOCALISERS:
            return None
        if self._threshold is None:
            return np.asarray(label_V > 0)
        t_N = self._space.t_map(LOCALISERS[collection])
        if t_N is None:
            self._space.notes.append(
                f"no category {collection}: its t map ({LOCALISERS[collection]}) is missing, so t > {self._threshold:g} cannot "
                "be asked for; floc_threshold: null takes the labels alone"
            )
            return None
        return np.asarray((label_V > 0) & (t_N[index_V] > self._threshold))


def reliable_areas(label_N: npt.NDArray[np.int32], ncsnr_N: Floats, count: int) -> Mask:
    """Voxels of the `count` areas with the highest mean noise ceiling (three repeats), both hemispheres together."""
    ceiling_N = ncsnr_N**2 / (ncsnr_N**2 + 1 / _REPEATS)
    known_N = np.isfinite(ceiling_N) & (label_N > 0)
    voxels = np.bincount(label_N[known_N])
    mean = np.bincount(label_N[known_N], ceiling_N[known_N]) / np.maximum(voxels, 1)
    best = np.argsort(-mean, kind="stable")[:count]
    return np.isin(label_N, best[voxels[best] > 0])
