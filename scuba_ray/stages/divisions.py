"""The parts of a subject's regions as the analysis `clusters` of the same run divides them: what pictures of parts stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config import RunConfig
from scuba_ray.config.analyses import EVERY
from scuba_ray.errors import ConfigError
from scuba_ray.tables.naming import ANALYSIS_KEY
from scuba_ray.tables.store import RunFolder

CLUSTERS = "clusters"
"""The analysis."""
ONE_PART = "the analysis clusters leaves it in one part"
_PART = re.compile(r"(.+) part [1-9]\d*")


@dataclass(frozen=True)
class Division:
    """A region and its parts, the largest first."""

    voxels: tuple[tuple[int, ...], ...]
    """Ids of the voxels of each part."""
    nouns: tuple[tuple[str, ...], ...]
    """Those that each part says more than the others."""
    note: str
    """Why there is one part only, or none."""


def part_target(roi: str, part: int) -> str:
    """What a part (from 0) is called in the key column `target`: counted from 1, as wherever parts are shown."""
    return f"{roi} part {part + 1}"


def region_of_part(name: str) -> str | None:
    """The region whose part would be called like this; None if that is no part's name."""
    found = _PART.fullmatch(name)
    return found[1] if found else None


def check_parts(config: RunConfig) -> None:
    """Hold what `synthesize` says of parts against the analysis that divides regions.

    It is not taken unasked: its table and figure are what the parts are known by, and it decides how many images are made.

    Raises
    ------
    ConfigError
        If pictures of parts are asked for and the run does not divide regions, or not these.
    """
    settings, divided = config.synthesize, config.clusters.rois
    if settings is None or "parts" not in settings.targets:
        return
    if not {CLUSTERS, EVERY} & set(config.analyses):
        raise ConfigError(
            "synthesize.targets has parts, which are those that the analysis clusters divides regions into, and this run does "
            "not take it: add clusters to analyses, or leave parts out of targets"
        )
    for roi in settings.parts:
        if divided is not None and roi not in divided:
            raise ConfigError(
                f"synthesize.parts has {roi}, which is not divided: add it to clusters.rois ({', '.join(divided) or 'none'}), or "
                "leave it out"
            )


def divisions(run: RunFolder, subject: str, backbone: str) -> dict[str, Division]:
    """Every region of a subject that the finished analysis looked at, by name."""
    columns = ["subject", "backbone", "roi", "level", "part", "voxel_id", "nouns", "note"]
    table = run.read(f"analyses/{CLUSTERS}", key=ANALYSIS_KEY, columns=columns)
    own = table.filter(pc.and_(pc.equal(table["subject"], subject), pc.equal(table["backbone"], backbone)))
    return {roi: _division(own.filter(pc.equal(own["roi"], roi))) for roi in pc.unique(own["roi"]).to_pylist()}


def _division(rows: pa.Table) -> Division:
    parts = rows.filter(pc.equal(rows["level"], "part")).sort_by("part").to_pylist()
    single = rows.filter(pc.equal(rows["level"], "voxel"))
    ids, labels = single["voxel_id"].to_pylist(), single["part"].to_pylist()
    known = [row for row in parts if row["part"] is not None]
    return Division(
        voxels=tuple(tuple(voxel for voxel, label in zip(ids, labels, strict=True) if label == row["part"]) for row in known),
        nouns=tuple(tuple(row["nouns"] or ()) for row in known),
        note=next((row["note"] for row in parts if row["note"]), ONE_PART),
    )
