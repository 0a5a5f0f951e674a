"""What a run's analyses and scores say of one voxel, for the terminal; nothing of tables that the run does not have."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from scuba_ray.analyses.embedding_map import COLOURS
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.ways import CONTROLS

if TYPE_CHECKING:
    import pyarrow as pa

    from scuba_ray.tables.store import RunFolder

PERSON, SELECTIVITY, CLUSTERS, EMBEDDING_MAP = (
    f"analyses/{name}" for name in ("person", "selectivity", "clusters", "embedding_map")
)
_NOUNS = 5
"""Nouns of a part at most."""


def analysed_items(run: RunFolder, subject: str, backbone: str, voxel: int) -> list[tuple[str, str]]:
    """Person share, selectivity, the part of each region it is in, and its colour on the embedding map, as item and value.

    A voxel that an analysis does not count (most count those with q < .05) has no item of it.
    """

    def rows(table: str) -> list[dict[str, Any]]:
        own = own_rows(run, table, subject, backbone)
        return [] if own is None else own.to_pylist()

    items = []
    for row in rows(PERSON):
        if row["voxel_id"] == voxel:
            items.append(("person share", f"{row['person_share']:.4g} of {row['captions']} captions name people"))
    for row in rows(SELECTIVITY):
        if row["voxel_id"] == voxel and row["value"] is not None:
            items.append((f"selectivity, {row['measure']}", f"{row['value']:.4g} ({row['unit']})"))
    items += _parts(rows(CLUSTERS), voxel)
    for row in rows(EMBEDDING_MAP):
        if row["voxel_id"] == voxel:
            colour = "".join(f"{round(255 * row[name]):02X}" for name in COLOURS)
            items.append(("embedding map", f"#{colour} ({row['method']} fitted on {row['fitted_on']})"))
    return items


def scored_items(run: RunFolder, subject: str, backbone: str, voxel: int) -> list[tuple[str, str]]:
    """Held-out r of the voxel's whole-bank captions by each judge, the best first; controls last, with what they said."""
    own = own_rows(run, "scores", subject, backbone)
    if own is None:
        return []
    whole = pc.and_(pc.equal(own["partition"], WHOLE_BANK), pc.equal(own["rank"], 0))
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in own.filter(pc.and_(whole, pc.equal(own["voxel_id"], voxel))).to_pylist():
        by_method[row["method"]].append(row)
    items = []
    for method, rows in by_method.items():
        known = [row for row in rows if row["heldout_r"] is not None]
        values = ", ".join(
            f"{row['heldout_r']:.3f} by {row['judge']}" for row in sorted(known, key=lambda row: row["judge"] != "own")
        )
        text = f"“{rows[0]['caption']}”: " if method in CONTROLS else ""
        best = max((row["heldout_r"] for row in known), default=-1)
        what = f"held-out r, {'control ' if text else ''}{method}"
        items.append((bool(text), -best, what, f"{text}{values or 'not known'}"))
    return [(what, value) for _, _, what, value in sorted(items)]


def own_rows(run: RunFolder, table: str, subject: str, backbone: str) -> pa.Table | None:
    """An analysis' rows of a subject and backbone; None where the run has no such analysis."""
    if not run.keys(table):
        return None
    rows = run.read(table)
    return rows.filter(pc.and_(pc.equal(rows["subject"], subject), pc.equal(rows["backbone"], backbone)))


def _parts(rows: list[dict[str, Any]], voxel: int) -> list[tuple[str, str]]:
    said = {(row["roi"], row["part"]): row["nouns"] or [] for row in rows if row["level"] == "part"}
    items = []
    for row in rows:
        if row["voxel_id"] == voxel:
            nouns = said.get((row["roi"], row["part"]), [])[:_NOUNS]
            about = [f"cosine with its mean {row['cosine']:.4g}", *([f"it says {', '.join(nouns)}"] if nouns else [])]
            items.append((f"part of {row['roi']}", f"{row['part'] + 1} of {row['parts']} ({'; '.join(about)})"))
    return items
