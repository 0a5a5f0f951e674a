"""Figure of a table of terms (nouns, verbs, relations): what each region says most surely, beside what all voxels say of it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.figure_marks import short, stacked
from scuba_ray.report.palette import EVERYWHERE, region_colours
from scuba_ray.report.png import png_of
from scuba_ray.tables.schemas import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP = 10
"""Terms shown per region."""
_COLUMNS, _WIDTH, _BAR, _LONGEST = 3, 3.3, 0.2, 26
"""Panels beside each other, inches each, inches per term, and letters of a term at most."""


def draw_terms(table: pa.Table, column: str) -> bytes:
    """A panel per region, a block of them per subject and kind. PNG.

    A bar is the share of the region's voxels that say a term, pale where q is not below `SIGNIFICANT`; the line across it is the
    share over all voxels, which is what permuting voxels gives on average.

    Parameters
    ----------
    table : pa.Table
        What the analysis `nouns` (column `noun`) or `beyond_nouns` (column `term`) wrote.
    """
    names = [name for name in ("subject", "backbone", "kind") if name in table.column_names]
    groups = list(dict.fromkeys(zip(*(table[name].to_pylist() for name in names), strict=True)))
    colours = region_colours(roi for roi in table["roi"].to_pylist() if roi != ALL)
    blocks = [_panels(table, dict(zip(names, key, strict=True))) for key in groups]
    deep = [-(-len(panels) // _COLUMNS) for panels in blocks]
    longest = max((len(_shown(rows, column)) for panels in blocks for _, rows in panels), default=1)
    tall = 0.95 + _BAR * max(longest, 3)
    figure, parts = stacked(_COLUMNS * _WIDTH, [rows * tall + 0.75 for rows in deep])
    for part, key, panels, rows in zip(parts, groups, blocks, deep, strict=True):
        selection, tagger = (panels[0][1][0][name] for name in ("selection", "tagger"))
        bars = f"bars: share of a region's {selection} that say it, pale where q ≥ {SIGNIFICANT}; line: share of all of them"
        part.suptitle(f"{' · '.join(key)}   ({tagger} tagger)\n{bars}", fontsize="small", x=0.01, ha="left")
        grid = part.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axes, (roi, found) in zip(grid, panels, strict=False):
            _bars(axes, found, column, colours.get(roi, EVERYWHERE), max(longest, 3))
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
    return png_of(figure)


def _panels(table: pa.Table, key: dict[str, str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Regions (all voxels, where there are none) with their measured rows."""
    for name, value in key.items():
        table = table.filter(pc.equal(table[name], value))
    rows = table.filter(pc.invert(pc.fill_null(table["permuted"], False))).to_pylist()
    regions = list(dict.fromkeys(row["roi"] for row in rows if row["roi"] != ALL)) or [ALL]
    return [(roi, [row for row in rows if row["roi"] == roi]) for roi in regions]


def _shown(rows: Sequence[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    return [row for row in rows if row[column] is not None and row["rank"] <= TOP]


def _bars(axes: Axes, rows: Sequence[dict[str, Any]], column: str, colour: str, room: int) -> None:
    """One panel; `room` is how many terms every panel has place for, so that bars are as thick everywhere."""
    shown, voxels = _shown(rows, column), rows[0]["voxels"]
    axes.set_title(
        f"{short(rows[0]['roi'], 22)}, {voxels:,} {'voxel' if voxels == 1 else 'voxels'}",
        loc="left",
        fontsize="small",
        fontweight="bold",
    )
    axes.spines[["top", "right"]].set_visible(False)
    if not shown:
        axes.set_axis_off()
        axes.text(0, 0.9, textwrap.fill(rows[0]["note"] or "", 36), va="top", fontsize="small", transform=axes.transAxes)
        return
    for place, row in enumerate(shown):
        sure = row["q"] is not None and row["q"] < SIGNIFICANT
        axes.barh(place, 100 * row["share"], color=colour, alpha=1 if sure else 0.35, height=0.72)
        axes.plot([100 * row["expected"]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.4)
    labels = [textwrap.shorten(row[column], _LONGEST, placeholder="…") for row in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize="small")
    axes.set_ylim(room - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize="small")
    axes.set_xlim(0, None)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("% of voxels", fontsize="small")
