"""Figure of made images, region by region: do they drive its voxels, and show what it answers to, beside natural images?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scuba_ray.analyses.recovery_summary import bootstrap
from scuba_ray.analyses.synthesis import ALL
from scuba_ray.report.figure_marks import ROW, legend, marks_of, offsets_of, point, rows_named, short, stacked
from scuba_ray.report.figure_probe import REGIONS
from scuba_ray.report.palette import EVERYWHERE, NOWHERE, region_colours
from scuba_ray.report.png import png_of
from scuba_ray.tables.ways import NATURAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("subject", "backbone", "kind", "target", "method", "predicted", "predicted_independent")
"""Of the table `images`, for intervals of means."""
DRAWS = 1000
"""Bootstrap draws over images."""

Intervals = Mapping[tuple[str, ...], tuple[float, float]]


def draw_synthesis(table: pa.Table, images: pa.Table, chance: float | None) -> bytes:
    """Mean predicted response, and share of images in the region's category, a row per region and a mark per method. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `synthesis` wrote.
    images : pa.Table
        `COLUMNS` of the table `images`.
    chance : float, optional
        Share of a category by chance, where it is known.
    """
    rows = table.to_pylist()
    rows = [row for row in rows if row["kind"] in REGIONS] or rows
    judged = any(row["predicted_independent"] is not None for row in rows)
    value, share = ("predicted_independent", "classified") if judged else ("predicted", "classified_own")
    intervals = _intervals(images, value)
    colours = region_colours(row["target"] for row in rows if row["kind"] == "roi" and row["target"] != ALL) | {ALL: "black"}
    marks = marks_of(row["method"] for row in rows)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["subject"], row["backbone"]].append(row)
    height = max(ROW, 0.1 * len(marks))
    tall = [1.75 + height * max(len({row["target"] for row in own}), 3) for own in groups.values()]
    figure, parts = stacked(10, tall)
    for part, (group, own) in zip(parts, groups.items(), strict=True):
        part.suptitle(" · ".join(group), fontsize="medium", x=0.01, ha="left")
        targets = sorted({row["target"] for row in own}, key=lambda name: (name == ALL, name))
        left, right = part.subplots(1, 2)
        known = [{**row, "mean_low": None, "mean_high": None} for row in own]
        for row in known:
            ends = intervals.get((*group, row["kind"], row["target"], row["method"]))
            row["mean_low"], row["mean_high"] = ends or (None, None)
        for axes, names in ((left, (value, "mean_low", "mean_high")), (right, (share, "low", "high"))):
            _points(axes, known, targets, names, marks=marks, colours=colours)
        _stimuli(left, known, targets, value)
        rows_named(left, [short(name) for name in targets])
        rows_named(right, [""] * len(targets))
        legend(left, marks, [method for method in marks if method in NATURAL])
        who = "independent model" if judged else "captioned model"
        left.set_xlabel(
            f"mean predicted response (z), {who}\nline: 95 % interval over images; bar: all of the subject's stimuli",
            fontsize="small",
        )
        said = ["line: 95 % interval"] if judged else []
        said += [] if chance is None else ["dotted: chance"]
        right.set_xlabel(f"share of images in the region's own category, {who}\n{'; '.join(said)}", fontsize="small")
        right.set_xlim(-0.03, 1.03)
        if chance is not None:
            right.axvline(chance, color="black", linewidth=1, linestyle=":")
    return png_of(figure)


def _points(
    axes: Axes, rows: Sequence[Mapping[str, Any]], targets: Sequence[str], names: tuple[str, str, str],
    *, marks: Mapping[str, str], colours: Mapping[str, str],
) -> None:  # fmt: skip
    offsets = offsets_of(marks)
    for row in rows:
        natural = row["method"] in NATURAL
        colour = EVERYWHERE if natural else colours.get(row["target"], NOWHERE)
        point(axes, targets.index(row["target"]) + offsets[row["method"]], row, names, mark=marks[row["method"]], colour=colour)
    for place, target in enumerate(targets):
        if all(row[names[0]] is None for row in rows if row["target"] == target):
            axes.text(0.02, place, "–", va="center", fontsize="small", transform=axes.get_yaxis_transform())


def _stimuli(axes: Axes, rows: Sequence[Mapping[str, Any]], targets: Sequence[str], value: str) -> None:
    """The mean prediction for all stimuli of the subject, which gains are counted from."""
    for row in rows:
        natural, place = row[f"natural_{value}"], targets.index(row["target"])
        if natural is not None and row["target"] != ALL:
            axes.plot([natural] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1)


def _intervals(images: pa.Table, value: str) -> Intervals:
    """95 % bootstrap intervals of mean predictions over images, of targets and of all regions together; none of one image."""
    values: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in images.to_pylist():
        if row[value] is not None:
            key = (row["subject"], row["backbone"], row["kind"])
            values[*key, row["target"], row["method"]].append(row[value])
            values[*key, ALL, row["method"]].append(row[value])
    return {key: bootstrap(np.array(own), 0, DRAWS) for key, own in values.items() if len(own) > 1}
