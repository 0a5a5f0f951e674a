"""What pictures are made for, and which voxels stand for it: regions, the voxels that answer most to a text, single voxels, and
parts of regions.

Only fitted voxels stand for anything (METHOD, section 5: BrainDiVE's mean went over voxels that were zeroed too), and where q is
known only those that predict test images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config import SynthesizeConfig
from scuba_ray.stages.divisions import Division, part_target
from scuba_ray.tables.schemas import SIGNIFICANT

UNKNOWN = "the subject has no such region or voxel"
NO_REGIONS = "the subject's voxels have no regions"
EMPTY = "no voxel is in it"
NOT_FITTED = "none of its voxels is fitted"
NOT_SIGNIFICANT = f"none of its fitted voxels has q < {SIGNIFICANT:g} (synthesize.significant: false takes all of them)"


@dataclass(frozen=True)
class Target:
    """What pictures are made for."""

    name: str
    """A region's name, `voxel ID`, a query's text, or `REGION part N`: key column `target`."""
    kind: str
    """roi, voxel, query or part."""
    voxels: tuple[int, ...]
    """Ids of the voxels that stand for it."""
    lacking: str = ""
    """Why none does."""
    nouns: tuple[str, ...] = ()
    """Of a part, what it says more than the region's other parts."""


def voxel_target(voxel: int) -> str:
    """What a single voxel is called in the key column `target`."""
    return f"voxel {voxel}"


def is_voxel_target(name: str) -> bool:
    """Whether some single voxel is called like this."""
    return re.fullmatch(r"voxel -?\d+", name) is not None


def find_targets(voxels: pa.Table, settings: SynthesizeConfig, divided: Mapping[str, Division]) -> Iterator[Target]:
    """The targets of one subject: regions first, then queries, single voxels and parts of regions.

    Parameters
    ----------
    voxels : pa.Table
        Columns voxel_id, rois, fitted, q, r2, r2_normalised, and drives: predicted responses to the texts of `settings.queries`.
    settings : SynthesizeConfig
    divided : mapping
        Regions and their parts; empty where no pictures of parts are asked for.

    Yields
    ------
    Target
        One without voxels says what it lacks.
    """
    subject = _Voxels(voxels, settings)
    if "rois" in settings.targets:
        if not subject.regions:
            yield Target("rois", "roi", (), NO_REGIONS)
        for roi, members_N in subject.regions.items():
            yield subject.target(roi, "roi", members_N)
    if "query" in settings.targets:
        drive_VQ = np.asarray(voxels["drives"].to_pylist(), np.float32).reshape(len(voxels), len(settings.queries))
        for query, drive_V in zip(settings.queries, drive_VQ.T, strict=True):
            standing_N = np.flatnonzero(subject.stands_V)
            # equal responses: the lower id, so that no run differs from another
            order = np.lexsort((subject.id_V[standing_N], -drive_V[standing_N]))
            nearest_N = standing_N[order[: settings.reach]]
            yield subject.target(query, "query", nearest_N if len(nearest_N) else np.arange(len(voxels)))
    if "voxels" in settings.targets:
        if isinstance(settings.voxels, int):
            yield from subject.best(settings.voxels)
        else:
            for voxel in settings.voxels:
                yield subject.target(voxel_target(voxel), "voxel", np.flatnonzero(subject.id_V == voxel))
    if "parts" in settings.targets:
        for roi in settings.parts or divided:
            yield from subject.parts(roi, divided.get(roi))


class _Voxels:
    """A subject's voxels, and which of them stand for targets."""

    def __init__(self, voxels: pa.Table, settings: SynthesizeConfig) -> None:
        self.id_V: npt.NDArray[np.int64] = voxels["voxel_id"].to_numpy()
        self.fitted_V: npt.NDArray[np.bool_] = voxels["fitted"].to_numpy()
        self.stands_V = self.fitted_V
        q_V = voxels["q"].to_numpy()
        if settings.significant and np.isfinite(q_V[self.fitted_V]).any():
            self.stands_V = self.fitted_V & (q_V < SIGNIFICANT)
        self.score_V = pc.coalesce(voxels["r2_normalised"], voxels["r2"], pa.scalar(-np.inf, pa.float32())).to_numpy()
        members: dict[str, list[int]] = {}
        for row, rois in enumerate(voxels["rois"].to_pylist()):
            for roi in dict.fromkeys(rois or ()):
                members.setdefault(roi, []).append(row)
        wanted = settings.rois or sorted(members)
        self.regions = {roi: np.array(members.get(roi, []), np.int64) for roi in wanted}

    def target(self, name: str, kind: str, members_N: npt.NDArray[np.int64]) -> Target:
        """A target of which some voxels (by row) are members."""
        standing_N = members_N[self.stands_V[members_N]]
        lacking = ""
        if not len(standing_N):
            lacking = UNKNOWN if not len(members_N) else NOT_SIGNIFICANT if self.fitted_V[members_N].any() else NOT_FITTED
        return Target(name, kind, tuple(self.id_V[standing_N].tolist()), lacking)

    def parts(self, roi: str, division: Division | None) -> Iterator[Target]:
        """The parts of a region, or one target that says why there are none."""
        if division is None or len(division.voxels) < 2:
            yield Target(f"parts of {roi}", "part", (), UNKNOWN if division is None else division.note)
            return
        for part, (voxels, nouns) in enumerate(zip(division.voxels, division.nouns, strict=True)):
            members_N = np.flatnonzero(np.isin(self.id_V, voxels))
            found = self.target(part_target(roi, part), "part", members_N)
            yield replace(found, nouns=nouns) if len(members_N) else replace(found, lacking=EMPTY)

    def best(self, count: int) -> Iterator[Target]:
        """The `count` best predicted voxels, one of each region in turn; a subject without regions is one region."""
        groups: Sequence[npt.NDArray[np.int64]] = list(self.regions.values()) or [np.arange(len(self.id_V))]
        ranked = [self._ranked(members_N[self.stands_V[members_N]]) for members_N in groups]
        if count and not any(ranked):
            everybody_V: npt.NDArray[np.int64] = np.concatenate(groups)
            yield self.target("voxels", "voxel", everybody_V)
        # the n-th of every region before the next of any; a voxel of two regions is taken once
        turns = (one[turn] for turn in range(max(map(len, ranked), default=0)) for one in ranked if turn < len(one))
        for voxel in list(dict.fromkeys(turns))[:count]:
            yield Target(voxel_target(voxel), "voxel", (voxel,))

    def _ranked(self, rows_N: npt.NDArray[Any]) -> list[int]:
        """Ids of some voxels, the best predicted first, equal ones by id."""
        order = np.lexsort((self.id_V[rows_N], -self.score_V[rows_N]))
        ids: list[int] = self.id_V[rows_N][order].tolist()
        return ids
