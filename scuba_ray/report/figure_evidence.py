"""Figures of what speaks for captions: nouns that pictures show, and on phantoms what was planted and named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from scuba_ray.analyses import recovery_summary, support_summary
from scuba_ray.analyses.spoken import ALL
from scuba_ray.report.figure_marks import ROW, legend, marks_of, offsets_of, point, rows_named, short, stacked
from scuba_ray.report.palette import EVERYWHERE, OKABE_ITO, region_colours
from scuba_ray.report.png import png_of
from scuba_ray.tables.ways import METHOD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]


def draw_support(table: pa.Table, voxels: pa.Table, level: float) -> bytes:
    """Share of supported nouns, a row per region and a mark per method, a panel per subject. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `support` wrote.
    voxels : pa.Table
        Columns subject, backbone, voxel_id, rois.
    level : float
        p up to which a noun counts as supported: the share that chance gives.
    """
    rows = support_summary.summarise(table, voxels)
    colours = {ALL: "black", **region_colours(row["roi"] for row in rows if row["roi"] != ALL)}
    marks = marks_of(row["method"] for row in rows)
    offsets = offsets_of(marks)

    def panel(axes: Axes, own: Rows) -> None:
        regions = sorted({row["roi"] for row in own}, key=lambda roi: (roi == ALL, roi))
        for row in own:
            place = regions.index(row["roi"]) + offsets[row["method"]]
            point(axes, place, row, ("share", "low", "high"), mark=marks[row["method"]], colour=colours[row["roi"]])
        counts = {roi: max(row["voxels"] for row in own if row["roi"] == roi) for roi in regions}
        rows_named(axes, [f"{short(roi)} ({counts[roi]:,})" for roi in regions])
        axes.axvline(level, color="black", linewidth=1, linestyle=":")
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(
            "share of a caption's nouns that a nearest picture shows (mean over voxels)\n"
            f"line: 95 % interval over voxels; dotted: chance ({level:g})",
            fontsize="small",
        )
        legend(axes, marks)

    return _blocks(rows, panel, lambda own: max(ROW, 0.1 * len(marks)) * max(len({row["roi"] for row in own}), 3))


def draw_recovery(table: pa.Table) -> bytes:
    """How often captions name what was planted, beside controls, a row per class of voxels, a panel per subject. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `recovery` wrote.
    """
    rows = recovery_summary.summarise(table, draws=2000).to_pylist()
    marks = marks_of(recovery_summary.METHODS)
    offsets = offsets_of(marks)

    def panel(axes: Axes, own: Rows) -> None:
        kinds = list(dict.fromkeys(row["voxel_class"] for row in own))
        for row in own:
            colour = OKABE_ITO["blue"] if row["method"] == METHOD else EVERYWHERE
            place = kinds.index(row["voxel_class"]) + offsets[row["method"]]
            point(axes, place, row, ("rate", "low", "high"), mark=marks[row["method"]], colour=colour)
        counts = {row["voxel_class"]: row["voxels"] for row in own}
        rows_named(axes, [f"{kind} ({counts[kind]:,})" for kind in kinds])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(
            f"share of voxels (ceiling ≥ {recovery_summary.CEILING}) whose caption names what was planted\n"
            "line: 95 % interval over voxels; open: controls",
            fontsize="small",
        )
        legend(axes, marks, [method for method in marks if method != METHOD])

    return _blocks(rows, panel, lambda own: 0.45 * max(len({row["voxel_class"] for row in own}), 3))


def _blocks(rows: Rows, panel: Callable[[Axes, Rows], None], height: Callable[[Rows], float]) -> bytes:
    """A panel per subject and backbone, one below the other, as high as its rows need; words where nothing counts."""
    from matplotlib.figure import Figure

    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[f"{row['subject']} · {row['backbone']}"].append(row)
    if not groups:
        figure = Figure(figsize=(7.2, 1), layout="constrained")
        figure.text(0.5, 0.5, "nothing counts: see the table", ha="center", va="center")
        return png_of(figure)
    figure, parts = stacked(7.2, [1.35 + height(own) for own in groups.values()])
    for part, (name, own) in zip(parts, groups.items(), strict=True):
        part.suptitle(name, fontsize="medium", x=0.01, ha="left")
        panel(part.subplots(), own)
    return png_of(figure)
