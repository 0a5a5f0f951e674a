"""`scuba show --about --roi`: what a region is about, in the terminal, as the page's view of it has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.spoken import ALL
from scuba_ray.errors import ConfigError
from scuba_ray.report.joined import voxel_rows
from scuba_ray.report.known import known_names
from scuba_ray.report.payload import Texts
from scuba_ray.report.regions import regions_about
from scuba_ray.tables.schemas import SIGNIFICANT

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

_ITEMS = pa.schema([("subject", pa.string()), ("backbone", pa.string()), ("item", pa.string()), ("value", pa.string())])


def region_table(run: RunFolder, roi: str | None = None) -> pa.Table:
    """What a region is about, as rows of (subject, backbone, item, value); all voxels together without `roi`.

    Voxels and their median scores, then what the analyses nouns, person and clusters found, where the run has them. What the
    figures of a noun mean: `analyses.terms`.

    Raises
    ------
    ConfigError
        If neither a voxel nor an analysis of the run knows the region; the message names those there are.
    """
    voxels = voxel_rows(run, ("subject", "backbone", "voxel_id", "rois", "noise_ceiling", "r2", "q"))
    wanted = roi or ALL
    rows, known = [], set()
    for subject, backbone in dict.fromkeys(zip(voxels["subject"].to_pylist(), voxels["backbone"].to_pylist(), strict=True)):
        same = pc.and_(pc.equal(voxels["subject"], subject), pc.equal(voxels["backbone"], backbone))
        mine = voxels.filter(same).to_pylist()
        names = sorted({name for row in mine for name in row["rois"] or ()})
        one = {"subject": subject, "backbone": backbone, "rois": [range(len(names))]}
        images = Texts()
        about = {entry["name"]: entry for entry in regions_about(run, one, {name: i for i, name in enumerate(names)}, images)}
        known |= set(about)
        if wanted in about:
            inside = [row for row in mine if wanted == ALL or wanted in (row["rois"] or ())]
            items = (*_voxels(inside), *_found(about[wanted], images.all))
            rows += [{"subject": subject, "backbone": backbone, "item": item, "value": value} for item, value in items]
    if not rows:
        raise ConfigError(f"no voxel of this run is in ROI {wanted!r}; {known_names(wanted, known - {ALL}, 'regions')}")
    return pa.Table.from_pylist(rows, schema=_ITEMS)


def _voxels(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    known = [row["q"] for row in rows if row["q"] is not None]
    found = f", {sum(q < SIGNIFICANT for q in known):,} with q < {SIGNIFICANT}" if known else ""
    yield "voxels", f"{len(rows):,}{found}"
    for name, label in (("noise_ceiling", "median ceiling"), ("r2", "median R²")):
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            yield label, f"{median(values):.3f} (share of variance)"


def _found(entry: Mapping[str, Any], images: list[str]) -> Iterator[tuple[str, str]]:
    """What analyses found; notes are what they say instead."""
    for what, note in entry["notes"]:
        yield f"note, {what}", note
    for place, one in enumerate((entry["nouns"] or {"top": []})["top"], 1):
        contrast = f" ({one['expected']:.0%} of all{_sure(one)})" if one["contrast"] is not None else ""
        yield f"noun {place}", f"{one['noun']}: {one['share']:.0%} of voxels{contrast}"
    if people := entry["people"]:
        interval = "" if people["low"] is None else f" (95 % interval {people['low']:.0%} to {people['high']:.0%})"
        yield "people", f"{people['person_share']:.0%} of captions name them{interval}"
    parts = entry["parts"] or {"all": [], "stability": None}
    if parts["stability"] is not None:
        yield "parts", f"{len(parts['all'])}; halves of the voxels agree by {parts['stability']:.2f} (adjusted Rand index)"
    for number, part in enumerate(parts["all"], 1):
        nouns = ", ".join(f"{noun} {share:.0%}" for noun, share in part["nouns"]) or "no noun more than the others"
        yield f"part {number}", f"{part['voxels']:,} voxels: {nouns}"
        if part["images"]:
            yield f"part {number}, nearest", ", ".join(images[image] for image in part["images"])


def _sure(noun: Mapping[str, Any]) -> str:
    q = f"q {noun['q']:.1g}" if noun["q"] else "q < 1e-300"
    return f"; contrast {noun['contrast']:.2f}, {q}"
