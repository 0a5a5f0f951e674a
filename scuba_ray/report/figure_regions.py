"""Figures of regions: how often captions name people, and how narrow and certain they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.selectivity import UNITS
from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.figure_marks import ROW, short, stacked
from scuba_ray.report.palette import EVERYWHERE, region_colours
from scuba_ray.report.png import png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_person(table: pa.Table) -> bytes:
    """Share of captions that name people, a panel per subject, regions from most to least. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `person` wrote.
    """
    from matplotlib.figure import Figure

    table = table.filter(pc.equal(table["level"], "roi"))
    panels, colours = _panels(table), _colours(table)
    tall = [1.1 + ROW * max(len(rows), 3) for rows in panels.values()]
    figure = Figure(figsize=(7.2, sum(tall)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=tall)[:, 0]
    for axes, (name, rows) in zip(grid, panels.items(), strict=True):
        rows.sort(key=lambda row: (row["roi"] == ALL, -(row["person_share"] or 0)))
        for place, row in enumerate(rows):
            if row["person_share"] is None:
                axes.text(0.5, place, row["note"], va="center", fontsize="small")
                continue
            axes.barh(place, 100 * row["person_share"], color=colours[row["roi"]], height=0.7)
            if row["low"] is not None:
                axes.plot([100 * row["low"], 100 * row["high"]], [place] * 2, color="black", linewidth=1.4)
            axes.plot(100 * row["whole_bank"], place, "D", color="white", markeredgecolor="black", markersize=4.5)
        _regions(axes, rows, [row["voxels"] for row in rows])
        axes.set_xlim(0, 100)
        said = "% of captions that name people\nline: 95 % interval over voxels; diamond: whole-bank captions alone"
        axes.set_xlabel(said, fontsize="small")
        axes.tick_params(axis="x", labelsize="small")
        axes.set_title(f"{name}\n{rows[0]['selection']}", loc="left", fontsize="small")
    return png_of(figure)


def draw_selectivity(table: pa.Table) -> bytes:
    """Median and quartiles of every measure, a row of panels per subject. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `selectivity` wrote.
    """
    table = table.filter(pc.equal(table["level"], "roi"))
    panels, colours = _panels(table), _colours(table)
    tall = [1.15 + ROW * max(len(rows) / len(UNITS), 3) for rows in panels.values()]
    figure, parts = stacked(2.5 * len(UNITS) + 1, tall)
    for part, (name, rows) in zip(parts, panels.items(), strict=True):
        part.suptitle(f"{name}, {rows[0]['selection']}: median and quartiles over voxels", fontsize="medium", x=0.01, ha="left")
        for axes, (measure, unit) in zip(part.subplots(1, len(UNITS)), UNITS.items(), strict=True):
            own = [row for row in rows if row["measure"] == measure]
            own.sort(key=lambda row: row["roi"] == ALL)
            _medians(axes, own, colours)
            _regions(axes, own, [row["voxels"] for row in own] if measure == "n_eff" else None)
            axes.set_xlabel(f"{measure.replace('_', ' ')}\n({unit})", fontsize="small")
            axes.tick_params(axis="x", labelsize="small")
    return png_of(figure)


def _medians(axes: Axes, rows: Sequence[dict[str, Any]], colours: dict[str, str]) -> None:
    for place, row in enumerate(rows):
        if row["value"] is None:
            axes.text(0, place, "–", va="center")
            continue
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place] * 2, color=colours[row["roi"]], linewidth=3, solid_capstyle="butt")
        axes.plot(row["value"], place, "o", color=colours[row["roi"]], markeredgecolor="black", markersize=6)
    known = [value for row in rows for value in (row["value"], row["low"], row["high"]) if value is not None]
    if rows[0]["unit"] == "images" and known:
        axes.set_xscale("log")
        axes.set_xlim(min(0.9, *known), 1.15 * max(2, *known))
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 1000, 10_000) if tick <= 1.15 * max(2, *known)]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_xlim(min(0, *known, 0), 1)
    chance = [row["chance"] for row in rows if row["roi"] == ALL and row["chance"] is not None]
    if chance:
        axes.axvline(chance[0], color="black", linewidth=1, linestyle=":")
        axes.text(chance[0], -0.62, " chance", fontsize="x-small", va="center")


def _regions(axes: Axes, rows: Sequence[dict[str, Any]], voxels: Sequence[int] | None) -> None:
    """Names of regions down the left side, with how many voxels they have; none where another panel has them."""
    names = [f"{short(row['roi'])} ({count:,})" for row, count in zip(rows, voxels, strict=True)] if voxels else [""] * len(rows)
    axes.set_yticks(range(len(rows)), names, fontsize="small")
    axes.set_ylim(max(len(rows), 3) - 0.4, -0.9)
    axes.spines[["top", "right"]].set_visible(False)


def _panels(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        panels.setdefault(f"{row['subject']} · {row['backbone']}", []).append(row)
    return panels


def _colours(table: pa.Table) -> dict[str, str]:
    return {ALL: EVERYWHERE, **region_colours(roi for roi in table["roi"].to_pylist() if roi != ALL)}
