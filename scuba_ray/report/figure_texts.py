"""What stands with an analysis' figure on the page: its title, a caption, and its main numbers in words for who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from scuba_ray.analyses import synthesis
from scuba_ray.analyses.recovery_summary import summarise
from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.figure_probe import shown

SAID = 24
"""Rows of a table told in words at most; the table has the rest."""
TERMS = 3
"""Terms of a region told at most."""

_TEXTS = {
    "nouns": ("Nouns of regions", "What captions name, region by region, and how often all voxels' captions do."),
    "beyond_nouns": ("Beyond nouns", "Verbs and relations that captions tell, region by region."),
    "person": ("People", "How often captions name people, region by region, with 95 % intervals over voxels."),
    "selectivity": ("Selectivity", "How narrow and how certain captions are: median and quartiles over a region's voxels."),
    "clusters": ("Parts of regions", "Into which parts a region falls by what its voxels answer to, and what each part says."),
    "embedding_map": (
        "Embedding map",
        "Projected embeddings as colours: where voxels lie in the map, and the colours of regions.",
    ),
    "comparison": ("Methods side by side", "How well captions of each method, and controls, predict held-out responses."),
    "synthesis": (
        "Images of regions",
        "Do images made for a region drive its voxels and show what it answers to, beside natural images that drove it most?",
    ),
    "probe": ("Five-way probe", "Which of the probe's categories images of each region show; a frame marks the region's own."),
    "support": ("Support of nouns", "How many of a caption's nouns are shown by one of the nearest pictures of the bank."),
    "recovery": (
        "What was planted",
        "How often captions name what was planted in simulated voxels, beside other voxels' captions.",
    ),
    "agreement": (
        "Agreement of subjects",
        "How much more captions of a region agree between subjects than those of other regions.",
    ),
    "backbones": (
        "Backbones",
        "Held-out R² by region and backbone: boxes show median, quartiles, 5th and 95th percentile of voxels.",
    ),
}


def texts(name: str, table: pa.Table) -> dict[str, str]:
    """Title, caption and alternative text of an analysis' figure; `table` is what the analysis wrote."""
    title, caption = _TEXTS[name]
    told = _TOLD[name](table) if name in _TOLD else table
    lines = _LINES[name](told.to_pylist())
    more = f"; and {len(lines) - SAID} more in the table" if len(lines) > SAID else ""
    return {"title": title, "caption": caption, "alt": f"{title}. {'; '.join(lines[:SAID])}{more}."}


def _who(row: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    """A row's region, after its subject where there are several."""
    alone = len({one["subject"] for one in rows}) == 1
    return row["roi"] if alone else f"{row['subject']}, {row['roi']}"


def _number(value: float | None, digits: int = 2) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0%}"


def _terms(rows: list[dict[str, Any]]) -> list[str]:
    column = "noun" if "noun" in rows[0] else "term"
    named: dict[str, list[str]] = {}
    for row in rows:
        if not row["permuted"] and row["roi"] != ALL and row[column] is not None and (row["rank"] or 0) <= TERMS:
            named.setdefault(_who(row, rows), []).append(f"{row[column]} ({_percent(row['share'])} of voxels)")
    return [f"{who}: {', '.join(own[:TERMS])}" for who, own in named.items()] or ["no region names any"]


def _person(rows: list[dict[str, Any]]) -> list[str]:
    mine = [row for row in rows if row["level"] == "roi"]
    mine.sort(key=lambda row: -(row["person_share"] or 0))
    return [f"{_who(row, mine)} {_percent(row['person_share'])}" for row in mine]


def _selectivity(rows: list[dict[str, Any]]) -> list[str]:
    mine = [row for row in rows if row["level"] == "roi" and row["value"] is not None]
    return [f"{_who(row, mine)}, {row['measure']} {_number(row['value'])} {row['unit']}" for row in mine]


def _clusters(rows: list[dict[str, Any]]) -> list[str]:
    mine = [row for row in rows if row["level"] == "part"]
    return [
        f"{_who(row, mine)}, part {row['part'] + 1}: {row['voxels']} voxels, {', '.join(row['nouns'][:TERMS]) or 'no noun'}"
        if row["part"] is not None
        else f"{_who(row, mine)}: {row['note']}"
        for row in mine
    ]


def _embedding_map(rows: list[dict[str, Any]]) -> list[str]:
    lines = {
        row["subject"]: row["note"]
        or f"{row['method']} fitted on {row['fitted_on']}, {_percent(row['explained'])} of its variance in three components"
        for row in rows
    }
    return [f"{subject}: {line}" for subject, line in lines.items()]


def _comparison(rows: list[dict[str, Any]]) -> list[str]:
    mine = [row for row in rows if row["roi"] == ALL]
    mine.sort(key=lambda row: (row["subject"], row["judge"] != "own", -(row["heldout_r"] or -1)))
    return [f"{row['subject']}, judge {row['judge']}, {row['method']} r {_number(row['heldout_r'])}" for row in mine]


def _backbones(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{_who(row, rows)}, {row['backbone']}: median R² {_number(row['median_r2'], 3)}" for row in rows]


def _synthesis(rows: list[dict[str, Any]]) -> list[str]:
    mine = [row for row in rows if row["kind"] == "roi"] or rows
    mine.sort(key=lambda row: row["target"] != synthesis.ALL)
    return [
        f"{_target(row, rows)}, {row['method']}: gain {_number(_first(row, 'gain_independent', 'gain'))} z, "
        f"{_percent(_first(row, 'classified', 'classified_own'))} in its category"
        for row in mine
    ]


def _first(row: Mapping[str, Any], *names: str) -> float | None:
    """The first of some columns that is known."""
    return next((row[name] for name in names if row[name] is not None), None)


def _target(row: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    return _who({**row, "roi": row["target"]}, rows)


def _probe(rows: list[dict[str, Any]]) -> list[str]:
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (_target(row, rows), row["method"])
        if key not in best or row["share"] > best[key]["share"]:
            best[key] = row
    return [
        f"{who}, {method}: most often {row['category']} ({_percent(row['share'])} of {row['images']})"
        for (who, method), row in best.items()
    ]


def _support(rows: list[dict[str, Any]]) -> list[str]:
    asked = [row for row in rows if row["supported"] is not None]
    counts: dict[tuple[str, str], list[bool]] = {}
    for row in asked:
        counts.setdefault((row["subject"], row["method"]), []).append(row["supported"])
    lines = [f"{who}, {method}: {_percent(sum(own) / len(own))} of {len(own):,} nouns" for (who, method), own in counts.items()]
    return lines or ["no noun could be asked about"]


def _recovery(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{row['subject']}, {row['voxel_class']}, {row['method']}: {_percent(row['rate'])} of {row['voxels']:,} voxels"
        for row in rows
    ]
    return lines or ["no voxel counts"]


def _agreement(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['subject']} with {row['other'] or 'the others'}, {row['roi']}, {row['measure']}: "
        + (f"gain {_number(row['gain'])}, p {_number(row['p'], 3)}" if row["gain"] is not None else str(row["note"]))
        for row in rows
    ]


_TOLD: dict[str, Callable[[pa.Table], pa.Table]] = {
    "probe": shown,
    # the intervals are not told
    "recovery": lambda table: summarise(table, draws=1),
}
"""What is told of tables that are more than is drawn of them."""
_LINES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "nouns": _terms, "beyond_nouns": _terms, "person": _person, "selectivity": _selectivity, "clusters": _clusters,
    "embedding_map": _embedding_map, "comparison": _comparison, "synthesis": _synthesis, "probe": _probe, "support": _support,
    "recovery": _recovery, "agreement": _agreement, "backbones": _backbones,
}  # fmt: skip
