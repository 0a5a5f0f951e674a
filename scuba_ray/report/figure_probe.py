"""Figure of the five-way probe: which category images of each region show, a heat map per method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config.scoring import OWN
from scuba_ray.report.figure_marks import short, stacked
from scuba_ray.report.palette import NOWHERE, region_colours
from scuba_ray.report.png import png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REGIONS = ("roi", "part")
"""Kinds of targets that are shown; where there are none, all are."""
_BESIDE, _CELL, _ROW, _NAMES = 3, 0.58, 0.36, 2.3
"""Panels beside each other at most, inches of a cell, and of the regions' names left of them."""


def draw_probe(table: pa.Table) -> bytes:
    """A block of heat maps per subject, regions by categories, as the most independent judge answers by its best prompt. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `probe` wrote.
    """
    table = shown(table)
    rows = table.to_pylist()
    groups = list(dict.fromkeys((row["subject"], row["backbone"]) for row in rows))
    methods, categories = (list(dict.fromkeys(row[name] for row in rows)) for name in ("method", "category"))
    colours = region_colours(row["target"] for row in rows if row["kind"] == "roi")
    targets = {group: _targets([row for row in rows if (row["subject"], row["backbone"]) == group]) for group in groups}
    deep = -(-len(methods) // _BESIDE)
    beside = -(-len(methods) // deep)
    tall = [deep * (1.05 + _ROW * len(names)) + 0.5 for names in targets.values()]
    wide = beside * (_CELL * len(categories) + 0.35) + _NAMES + 0.6
    figure, parts = stacked(max(wide, 6.2), tall)
    for part, group in zip(parts, groups, strict=True):
        own = [row for row in rows if (row["subject"], row["backbone"]) == group]
        judge = "the captioned backbone itself" if own[0]["judge"] == OWN else own[0]["judge"]
        how = f"judge: {judge}, {own[0]['rule']}; chance {own[0]['chance']:.0%}"
        part.suptitle(
            f"{' · '.join(group)}: % of images in each category, 95 % interval\n{how}", fontsize="small", x=0.01, ha="left"
        )
        grid = part.subplots(deep, beside, squeeze=False)
        for place, axes in enumerate(grid.ravel()):
            if place >= len(methods):
                axes.set_axis_off()
                continue
            mine = [row for row in own if row["method"] == methods[place]]
            _heat_map(axes, mine, targets[group], categories)
            axes.set_title(methods[place], loc="left", fontsize="small", fontweight="bold")
            _names(axes, targets[group] if place % beside == 0 else [], colours)
    return png_of(figure)


def shown(table: pa.Table) -> pa.Table:
    """The rows that are drawn: regions, by the independent judge where there is one, by the best prompt of each category."""
    judges = set(table["judge"].to_pylist())
    table = table.filter(pc.equal(table["judge"], next(iter(sorted(judges - {OWN})), OWN)))
    table = table.filter(pc.equal(table["rule"], table["rule"][0]))
    regions = table.filter(pc.is_in(table["kind"], value_set=pa.array(REGIONS)))
    return regions if len(regions) else table


def _targets(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Regions by the category they belong to, in the probe's order, then by name; those of none come last."""
    order = list(dict.fromkeys(row["category"] for row in rows))
    wanted = {row["target"]: row["target_category"] for row in rows}
    return sorted(wanted, key=lambda name: (order.index(wanted[name]) if wanted[name] in order else len(order), name))


def _heat_map(axes: Axes, rows: Sequence[dict[str, Any]], targets: Sequence[str], categories: Sequence[str]) -> None:
    import numpy as np
    from matplotlib.patches import Rectangle

    share_TC = np.full((len(targets), len(categories)), np.nan)
    for row in rows:
        share_TC[targets.index(row["target"]), categories.index(row["category"])] = row["share"]
    axes.set_facecolor("0.93")
    axes.imshow(share_TC, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in rows:
        up, across = targets.index(row["target"]), categories.index(row["category"])
        colour = "white" if row["share"] > 0.55 else "black"
        axes.text(across, up - 0.16, f"{100 * row['share']:.0f}", ha="center", va="center", fontsize=8, color=colour)
        interval = f"{100 * row['low']:.0f}–{100 * row['high']:.0f}"
        axes.text(across, up + 0.24, interval, ha="center", va="center", fontsize=5.5, color=colour)
        if row["category"] == row["target_category"]:
            axes.add_patch(Rectangle((across - 0.48, up - 0.47), 0.96, 0.94, fill=False, edgecolor="black", linewidth=1.4))
    counts = {row["images"] for row in rows}
    each = f"{min(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}" if counts else "no"
    axes.set_xlabel(f"category ({each} images a row)", fontsize="small")
    axes.set_xticks(range(len(categories)), [short(name, 14) for name in categories], fontsize="x-small", rotation=30, ha="right")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _names(axes: Axes, targets: Sequence[str], colours: dict[str, str]) -> None:
    """Names of regions with their colours, left of the first panel of a line; the others have none."""
    axes.set_yticks(range(len(targets)), [short(name) for name in targets], fontsize="small")
    for place, name in enumerate(targets):
        axes.plot([-0.018] * 2, [place - 0.42, place + 0.42], color=colours.get(name, NOWHERE), linewidth=4,
                  solid_capstyle="butt", clip_on=False, transform=axes.get_yaxis_transform())  # fmt: skip
    axes.tick_params(axis="y", pad=8)
