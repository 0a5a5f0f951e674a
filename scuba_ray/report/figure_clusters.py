"""Figure of regions' parts: how large each is, what it says, what its voxels' models predict for whose pictures, and the images
that were made for it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.palette import EVERYWHERE, region_colours
from scuba_ray.report.png import png_of
from scuba_ray.stages.divisions import part_target
from scuba_ray.tables.ways import BRAINDIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scuba_ray.report.synthesised import MethodImages

_ROW, _SAID = 0.27, 72
"""Inches per part, and letters of its nouns at most."""
_WIDE, _HIGH, _SHOWN = 11.0, 1.0, 8
"""Inches: the figure's width, and a row of images; how many images a row has at most, of all methods together."""

Made = Mapping[tuple[str, str, str], "Sequence[MethodImages]"]


def draw_clusters(table: pa.Table, made: Made) -> bytes:
    """A block of two panels per subject: parts by region, and predicted responses; below them the images made for parts. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `clusters` wrote.
    made : mapping
        As `synthesised.made_for_parts` gives it; without images there are no rows of them.
    """
    from matplotlib.figure import Figure

    rows = table.filter(pc.equal(table["level"], "part")).to_pylist()
    colours = {ALL: EVERYWHERE, **region_colours(row["roi"] for row in rows if row["roi"] != ALL)}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{row['subject']} · {row['backbone']}, {row['selection']}", []).append(row)
    pictured = [[row for row in own if _images(made, row)] for own in groups.values()]
    heights = []
    for own, some in zip(groups.values(), pictured, strict=True):
        heights += [1.15 + _ROW * max(len(own), 3), *([0.5 + _HIGH * len(some)] if some else [])]
    figure = Figure(figsize=(_WIDE, sum(heights)), layout="constrained")
    grid, place = figure.add_gridspec(len(heights), 1, height_ratios=heights), count()
    for (name, own), some in zip(groups.items(), pictured, strict=True):
        inner = grid[next(place)].subgridspec(1, 2, width_ratios=[3, 1])
        left, right = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
        _parts(left, own, colours)
        _predicted(right, own, colours, made)
        left.set_title(name, loc="left", fontsize="medium")
        if some:
            _pictures(figure.add_subplot(grid[next(place)]), some, made)
    return png_of(figure)


def _images(made: Made, row: dict[str, Any]) -> Sequence[MethodImages]:
    """What was made for a part, by method."""
    return () if row["part"] is None else made.get((row["subject"], row["backbone"], part_target(row["roi"], row["part"])), ())


def _pictures(axes: Axes, rows: Sequence[dict[str, Any]], made: Made) -> None:
    """A row per part: the best images of each method in turn, each with what it was made from and the predicted response."""
    across = _WIDE / _HIGH
    for place, row in enumerate(rows):
        methods = _images(made, row)
        each = max(_SHOWN // len(methods), 1)
        best = [(of.method, image) for of in methods for image in of.best[:each]][:_SHOWN]
        axes.text(0.9, place + 0.4, f"{row['roi']} {row['part'] + 1}", ha="right", va="center", fontsize="small", weight="bold")
        for at, (method, image) in enumerate(best):
            left = 1 + at * (across - 1) / _SHOWN
            if image["picture"] is not None:
                axes.imshow(image["picture"], extent=(left, left + 0.8, place + 0.8, place), interpolation="antialiased")
            noun = textwrap.shorten(image["noun"] or method, 14, placeholder="…")
            response = f"{image['predicted']:.2f}".replace("-", "−")
            axes.text(left, place + 0.83, f"{noun}, {response}", va="top", fontsize="x-small")
    axes.set(xlim=(0, across), ylim=(len(rows), -0.05), aspect="equal", anchor="NW")
    axes.set_axis_off()
    title = (
        "images made for parts, the best of each method: noun of the prompt, or method; mean predicted response of the part (z)"
    )
    axes.set_title(title, loc="left", fontsize="small")


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


def _predicted(axes: Axes, rows: Sequence[dict[str, Any]], colours: dict[str, str], made: Made) -> None:
    for place, row in enumerate(rows):
        for of in _images(made, row):
            marker = "^" if of.method == BRAINDIVE else "D"
            axes.plot(of.predicted, place, marker, markerfacecolor="white", markeredgecolor="black", markersize=4.5)
        known = [value for value in (row["predicted_own"], row["predicted_other"]) if value is not None]
        axes.plot(known, [place] * len(known), color=colours[row["roi"]], linewidth=1.5)
        for value, face in ((row["predicted_other"], "white"), (row["predicted_own"], colours[row["roi"]])):
            if value is not None:
                axes.plot(value, place, "o", markerfacecolor=face, markeredgecolor=colours[row["roi"]], markersize=6)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticks([])
    axes.set_ylim(max(len(rows), 3) - 0.4, -0.6)
    methods = {of.method == BRAINDIVE for row in rows for of in _images(made, row)}
    label = "mean predicted response (z)\nfull: to the part's own pictures;\nopen: to the other parts'"
    label += ";\ndiamond: to images from its captions" if False in methods else ""
    label += ";\ntriangle: to images by gradient" if True in methods else ""
    axes.set_xlabel(label, fontsize="small")
    axes.tick_params(axis="x", labelsize="small")
    axes.spines[["top", "right", "left"]].set_visible(False)
