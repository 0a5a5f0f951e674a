"""Figure of all methods side by side: captions by held-out responses, images by what an independent model predicts of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses import synthesis
from scuba_ray.analyses.comparison import ALL
from scuba_ray.report.palette import EVERYWHERE, OKABE_ITO
from scuba_ray.report.png import png_of
from scuba_ray.tables.ways import CONCEPTS, LAVCA, METHOD, NATURAL, RERANKED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MADE = (METHOD, RERANKED, LAVCA, CONCEPTS)
"""Methods; what else is scored is a control."""
_MARKS = "osD^v"


def draw_methods(table: pa.Table, images: pa.Table | None) -> bytes:
    """A row per subject: mean held-out correlation of every method and control, and predicted responses of images. PNG.

    Parameters
    ----------
    table, images : pa.Table
        What the analyses `comparison` and `synthesis` wrote; None where the run makes no images.
    """
    from matplotlib.figure import Figure

    table = table.filter(pc.equal(table["roi"], ALL))
    groups = list(dict.fromkeys(zip(table["subject"].to_pylist(), table["backbone"].to_pylist(), strict=True)))
    figure = Figure(figsize=(6 if images is None else 11, 3.4 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), 1 if images is None else 2, squeeze=False)
    for axes, (subject, backbone) in zip(grid, groups, strict=True):
        _captions(axes[0], _of(table, subject, backbone))
        axes[0].set_title(f"{subject} · {backbone}: captions", loc="left", fontsize="medium")
        if images is not None:
            _images(axes[1], [row for row in _of(images, subject, backbone) if row["target"] == synthesis.ALL])
            axes[1].set_title("images of all regions", loc="left", fontsize="medium")
    return png_of(figure)


def _of(table: pa.Table, subject: str, backbone: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(
        pc.and_(pc.equal(table["subject"], subject), pc.equal(table["backbone"], backbone))
    ).to_pylist()
    return rows


def _captions(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    best = {
        method: max(row["heldout_r"] for row in rows if row["method"] == method) for method in {row["method"] for row in rows}
    }
    methods = sorted(best, key=lambda method: (method not in _MADE, -best[method]))
    for row in rows:
        place = methods.index(row["method"]) + 0.22 * (judges.index(row["judge"]) - (len(judges) - 1) / 2)
        colour = OKABE_ITO["blue"] if row["method"] in _MADE else EVERYWHERE
        mark = _MARKS[judges.index(row["judge"]) % len(_MARKS)]
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place] * 2, color=colour, linewidth=2)
        axes.plot(row["heldout_r"], place, mark, color=colour, markersize=5.5)
    for number, judge in enumerate(judges):
        axes.plot([], [], _MARKS[number % len(_MARKS)], color="black", markersize=5.5, linestyle="none", label=f"judge: {judge}")
    axes.legend(fontsize="x-small", frameon=False, loc="best")
    _names(axes, methods)
    axes.set_xlabel("mean correlation with held-out responses (Spearman's r)\nblue: methods, grey: controls; line: 95 % interval")
    axes.xaxis.label.set_fontsize("small")


def _images(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    rows = sorted(rows, key=lambda row: -(row["predicted_independent"] or row["predicted"] or 0))
    for place, row in enumerate(rows):
        colour = EVERYWHERE if row["method"] in NATURAL else OKABE_ITO["blue"]
        for name, face in (("predicted", "white"), ("predicted_independent", colour)):
            if row[name] is not None:
                axes.plot(row[name], place, "o", markerfacecolor=face, markeredgecolor=colour, markersize=6)
    axes.axvline(0, color="black", linewidth=0.6)
    _names(axes, [f"{row['method']} ({row['images']:,})" for row in rows])
    axes.set_xlabel("mean predicted response (z)\nfull: by the independent model, open: by the captioned one", fontsize="small")


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_ylim(max(len(names), 3) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)
