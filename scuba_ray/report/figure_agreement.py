"""Figure of agreement between subjects: how much more a region agrees with itself than with other regions, beside chance."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scuba_ray.report.figure_marks import ROW, rows_named, short, stacked
from scuba_ray.report.palette import region_colours
from scuba_ray.report.png import png_of
from scuba_ray.tables.schemas import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {
    "nouns": ("nouns", "1 − Jensen-Shannon divergence, bits"),
    "embedding": ("projected embeddings", "cosine"),
    "prediction": ("predicted responses", "Spearman's r"),
}
"""Title and unit of each measure."""


def draw_agreement(table: pa.Table) -> bytes:
    """Gain of every region by each measure, a dot per pair of subjects or subject left out, a block per backbone. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `agreement` wrote.
    """
    rows = table.to_pylist()
    blocks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        blocks.setdefault(row["backbone"], []).append(row)
    colours = region_colours(row["roi"] for row in rows)
    regions = {name: sorted({row["roi"] for row in own}) for name, own in blocks.items()}
    tall = [1.6 + ROW * max(len(names), 3) for names in regions.values()]
    figure, parts = stacked(11, tall)
    for part, (backbone, own) in zip(parts, blocks.items(), strict=True):
        subjects = ", ".join(dict.fromkeys(name for row in own for name in (row["subject"], row["other"]) if name))
        said = "gain = agreement of a region with itself minus with other regions"
        part.suptitle(f"{short(subjects, 90)} · {backbone}: {said}", fontsize="medium", x=0.01, ha="left")
        for place, (axes, measure) in enumerate(zip(part.subplots(1, len(MEASURES)), MEASURES, strict=True)):
            _gains(axes, [row for row in own if row["measure"] == measure], regions[backbone], colours)
            rows_named(axes, [short(name) if place == 0 else "" for name in regions[backbone]])
            title, unit = MEASURES[measure]
            axes.set_title(title, loc="left", fontsize="small", fontweight="bold")
            axes.set_xlabel(f"gain ({unit})", fontsize="small")
        part.supxlabel(
            "a dot per pair of subjects, or per subject predicted from the others: full where p < "
            f"{SIGNIFICANT}, open elsewhere;\ngrey: 95 % of permutations of voxels over regions; tick: mean of the dots",
            fontsize="small",
        )
    return png_of(figure)


def _gains(axes: Axes, rows: Sequence[dict[str, Any]], regions: Sequence[str], colours: dict[str, str]) -> None:
    axes.axvline(0, color="black", linewidth=0.6)
    for place, region in enumerate(regions):
        mine = [row for row in rows if row["roi"] == region and row["gain"] is not None]
        if not mine:
            notes = [row["note"] for row in rows if row["roi"] == region and row["note"]]
            said = textwrap.shorten(notes[0] if notes else "not known", 52, placeholder=" …")
            axes.text(0.02, place, said, va="center", fontsize="x-small", transform=axes.get_yaxis_transform())
            continue
        # beside each other inside the row, so that pairs with equal gains are all seen
        offsets = np.linspace(-0.22, 0.22, len(mine)) if len(mine) > 1 else [0.0]
        for offset, row in zip(offsets, mine, strict=True):
            if row["shuffled_low"] is not None:
                ends = [row["shuffled_low"], row["shuffled_high"]]
                axes.plot(
                    ends, [place + offset] * 2, color="0.8", linewidth=min(7, 14 / len(mine)), solid_capstyle="butt", zorder=1
                )
            sure = row["p"] is not None and row["p"] < SIGNIFICANT
            axes.plot(row["gain"], place + offset, "o", markerfacecolor=colours[region] if sure else "white",
                      markeredgecolor=colours[region], markersize=6 if len(mine) < 5 else 4)  # fmt: skip
        if len(mine) == 1:
            continue
        mean = float(np.mean([row["gain"] for row in mine]))
        axes.plot([mean] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.2)
