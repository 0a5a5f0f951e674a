"""What each region of a subject is about, for the page: its nouns, people and parts as the run's analyses found them.

Only regions that the subject or its analyses name; numbers that the page can count itself (voxels, scores) are left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.analysed import CLUSTERS, PERSON, own_rows
from scuba_ray.report.payload import Texts, rounded

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

NOUNS = "analyses/nouns"
TOP, PART_NOUNS = 12, 8
"""Nouns of a region and of a part at most."""
PICTURES = 6
"""Bank pictures of a part at most."""
_NOUN = ("share", "expected", "contrast", "q")
_PEOPLE = ("person_share", "low", "high")
_PART = ("cosine", "predicted_own", "predicted_other")


def regions_about(run: RunFolder, one: Mapping[str, Any], regions: Mapping[str, int], images: Texts) -> list[dict[str, Any]]:
    """All voxels together, then every region of one set of `payload.voxel_sets`, as mappings.

    Parameters
    ----------
    regions : mapping
        Region name to its number on the page.
    images : Texts
        Where names of bank images are gathered.

    Returns
    -------
    list of dict
        name, region (its number; null for all voxels, -1 where no voxel of the run is in it), nouns, people, parts and notes,
        each null or empty where the run has no such analysis.
    """
    here = {roi for rois in one["rois"] for roi in rois}
    about = {ALL: _blank(ALL, None)} | {name: _blank(name, number) for name, number in regions.items() if number in here}
    for table, take in ((NOUNS, _nouns), (PERSON, _people), (CLUSTERS, _parts)):
        rows = own_rows(run, table, one["subject"], one["backbone"])
        for row in [] if rows is None else rows.filter(pc.is_valid(rows["roi"])).to_pylist():
            take(about.setdefault(row["roi"], _blank(row["roi"], regions.get(row["roi"], -1))), row, images)
    return list(about.values())


def _blank(name: str, region: int | None) -> dict[str, Any]:
    return {"name": name, "region": region, "nouns": None, "people": None, "parts": None, "notes": []}


def part_pictures(about: list[dict[str, Any]]) -> list[int]:
    """Numbers of all pictures of parts, the nearest of every part first."""
    parts = [part["images"] for entry in about for part in (entry["parts"] or {"all": []})["all"]]
    return [own[place] for place in range(PICTURES) for own in parts if place < len(own)]


def _nouns(entry: dict[str, Any], row: Mapping[str, Any], images: Texts) -> None:
    if row["permuted"]:
        return
    nouns = entry["nouns"] = entry["nouns"] or {"counted": row["selection"], "voxels": row["voxels"], "top": []}
    _note(entry, "nouns", row)
    if row["noun"] is not None and row["rank"] <= TOP:
        figures = rounded((row[name] for name in _NOUN), 3)
        nouns["top"].append({"noun": row["noun"], "count": row["count"], **dict(zip(_NOUN, figures, strict=True))})


def _people(entry: dict[str, Any], row: Mapping[str, Any], images: Texts) -> None:
    _note(entry, "people", row)
    if row["person_share"] is not None:
        figures = dict(zip(_PEOPLE, rounded((row[name] for name in _PEOPLE), 3), strict=True))
        entry["people"] = {**figures, "voxels": row["voxels"], "counted": row["selection"]}


def _parts(entry: dict[str, Any], row: Mapping[str, Any], images: Texts) -> None:
    if row["level"] != "part":
        return
    stability = rounded([row["stability"]], 3)[0]
    parts = entry["parts"] = entry["parts"] or {"stability": stability, "counted": row["selection"], "all": []}
    _note(entry, "parts", row)
    if row["part"] is None:
        return
    shares = rounded((row["noun_shares"] or [])[:PART_NOUNS], 3)
    parts["all"].append({
        "voxels": row["voxels"],
        "nouns": [list(pair) for pair in zip((row["nouns"] or [])[:PART_NOUNS], shares, strict=True)],
        "images": [images.add(name) for name in (row["image_ids"] or [])[:PICTURES]],
        "image_cos": rounded((row["image_cos"] or [])[:PICTURES], 3),
        **dict(zip(_PART, rounded((row[name] for name in _PART), 3), strict=True)),
    })  # fmt: skip


def _note(entry: dict[str, Any], what: str, row: Mapping[str, Any]) -> None:
    """Keep what an analysis says in words of a region, once."""
    if row["note"] and [what, row["note"]] not in entry["notes"]:
        entry["notes"].append([what, row["note"]])
