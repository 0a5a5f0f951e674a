"""What stands with an analysis' figure on the page: its title, a caption, and its main numbers in words for who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from scuba_ray.analyses.spoken import ALL

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
    "backbones": (
        "Backbones",
        "Held-out R² by region and backbone: boxes show median, quartiles, 5th and 95th percentile of voxels.",
    ),
}


def texts(name: str, table: pa.Table) -> dict[str, str]:
    """Title, caption and alternative text of an analysis' figure; `table` is what the analysis wrote."""
    title, caption = _TEXTS[name]
    lines = _LINES[name](table.to_pylist())
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


_LINES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "nouns": _terms, "beyond_nouns": _terms, "person": _person, "selectivity": _selectivity, "clusters": _clusters,
    "embedding_map": _embedding_map, "comparison": _comparison, "backbones": _backbones,
}  # fmt: skip
