"""Figure of regions' parts: how large each is, what it says, and what its voxels' models predict for whose pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.palette import EVERYWHERE, region_colours
from scuba_ray.report.png import png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _SAID = 0.27, 72
"""Inches per part, and letters of its nouns at most."""


def draw_clusters(table: pa.Table) -> bytes:
    """A block of two panels per subject: parts by region, and predicted responses. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `clusters` wrote.
    """
    from matplotlib.figure import Figure

    rows = table.filter(pc.equal(table["level"], "part")).to_pylist()
    colours = {ALL: EVERYWHERE, **region_colours(row["roi"] for row in rows if row["roi"] != ALL)}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['subject']} · {row['backbone']}, {row['selection']}", []).append(row)
    tall = [1.15 + _ROW * max(len(own), 3) for own in groups.values()]
    figure = Figure(figsize=(11, sum(tall)), layout="constrained")
    grid = figure.subplots(len(groups), 2, squeeze=False, height_ratios=tall, width_ratios=[3, 1])
    for (left, right), (name, own) in zip(grid, groups.items(), strict=True):
        _parts(left, own, colours)
        _predicted(right, own, colours)
        left.set_title(name, loc="left", fontsize="medium")
    return png_of(figure)


def _parts(axes: Axes, rows: Sequence[dict[str, Any]], colours: dict[str, str]) -> None:
    total = {roi: sum(row["voxels"] for row in rows if row["roi"] == roi) for roi in colours}
    for place, row in enumerate(rows):
        share = 100 * row["voxels"] / max(total[row["roi"]], 1)
        axes.barh(place, share, color=colours[row["roi"]], height=0.75)
        text = ", ".join(row["nouns"] or ())
        note = f"({row['note']})" if row["note"] and row["part"] is None else ""
        shown = textwrap.shorten(note or text or "(no noun that it says more)", _SAID, placeholder=" …")
        axes.text(share + 1, place, shown, va="center", fontsize="small")
    labels = [_label(row, index, rows) for index, row in enumerate(rows)]
    axes.set_yticks(range(len(rows)), labels, fontsize="small")
    axes.set_ylim(max(len(rows), 3) - 0.4, -0.6)
    axes.set_xlim(0, 225)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("% of the region's voxels, and the nouns a part says more than the others", loc="left", fontsize="small")
    axes.tick_params(axis="x", labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["bottom"].set_bounds(0, 100)


def _label(row: dict[str, Any], index: int, rows: Sequence[dict[str, Any]]) -> str:
    """Region and stability beside its first part, number and voxels beside each."""
    part = "" if row["part"] is None else f"{row['part'] + 1} ({row['voxels']:,})"
    if index and rows[index - 1]["roi"] == row["roi"]:
        return part
    stable = "" if row["stability"] is None else f", halves agree {row['stability']:.2f}"
    return f"{row['roi']}{stable}    {part}"


def _predicted(axes: Axes, rows: Sequence[dict[str, Any]], colours: dict[str, str]) -> None:
    for place, row in enumerate(rows):
        known = [value for value in (row["predicted_own"], row["predicted_other"]) if value is not None]
        axes.plot(known, [place] * len(known), color=colours[row["roi"]], linewidth=1.5)
        for value, face in ((row["predicted_other"], "white"), (row["predicted_own"], colours[row["roi"]])):
            if value is not None:
                axes.plot(value, place, "o", markerfacecolor=face, markeredgecolor=colours[row["roi"]], markersize=6)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticks([])
    axes.set_ylim(max(len(rows), 3) - 0.4, -0.6)
    axes.set_xlabel("mean predicted response (z)\nfull: to the part's own pictures;\nopen: to the other parts'", fontsize="small")
    axes.tick_params(axis="x", labelsize="small")
    axes.spines[["top", "right", "left"]].set_visible(False)
