"""Figure of the embedding map: where voxels lie in it, and which colours each region has, subject by subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.embedding_map import COLOURS, COMPONENTS
from scuba_ray.report.figure_marks import short, stacked
from scuba_ray.report.png import png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDE = 200
"""Cells of a region's strip."""


def draw_map(table: pa.Table, voxels: pa.Table) -> bytes:
    """Two scatters of the components and a strip of colours per region, a row per subject. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `embedding_map` wrote.
    voxels : pa.Table
        Columns subject, backbone, voxel_id, rois.
    """
    groups = list(dict.fromkeys(zip(table["subject"].to_pylist(), table["backbone"].to_pylist(), strict=True)))
    figure, parts = stacked(11, [3.6] * len(groups))
    for part, (subject, backbone) in zip(parts, groups, strict=True):
        own, theirs = (
            one.filter(pc.and_(pc.equal(one["subject"], subject), pc.equal(one["backbone"], backbone))) for one in (table, voxels)
        )
        first = own.slice(0, 1).to_pylist()[0]
        share = "" if first["explained"] is None else f", {first['explained']:.0%} of its variance"
        how = f"{first['method']} fitted on {first['fitted_on']}{share}; {first['selection']}"
        part.suptitle(f"{subject} · {backbone}: {how}", fontsize="medium", x=0.01, ha="left")
        if first["voxel_id"] is None:
            part.text(0.5, 0.5, first["note"], ha="center", fontsize="medium")
            continue
        place_V3, colour_V3 = (np.stack([own[name].to_numpy() for name in names], 1) for names in (COMPONENTS, COLOURS))
        left, middle, right = part.subplots(1, 3, width_ratios=[1, 1, 1.3])
        for axes, (across, up) in ((left, (0, 1)), (middle, (2, 1))):
            axes.scatter(place_V3[:, across], place_V3[:, up], c=colour_V3, s=9, linewidths=0, rasterized=True)
            axes.set_xlabel(f"component {across + 1} ({('red', 'green', 'blue')[across]})", fontsize="small")
            axes.set_ylabel(f"component {up + 1} ({('red', 'green', 'blue')[up]})", fontsize="small")
            axes.tick_params(labelsize="small")
            axes.spines[["top", "right"]].set_visible(False)
        rois = dict(zip(theirs["voxel_id"].to_pylist(), theirs["rois"].to_pylist(), strict=True))
        members: dict[str, list[int]] = {}
        for index, voxel in enumerate(own["voxel_id"].to_pylist()):
            for roi in rois.get(voxel) or ["no region"]:
                members.setdefault(roi, []).append(index)
        _strips(right, members, colour_V3, place_V3)
    return png_of(figure)


def _strips(
    axes: Axes, members: Mapping[str, list[int]], colour_V3: npt.NDArray[np.float64], place_V3: npt.NDArray[np.float64]
) -> None:
    """A region's voxels side by side, in the order of the first component."""
    names = sorted(members)
    for row, name in enumerate(names):
        index = np.array(members[name])
        index = index[place_V3[index, 0].argsort(kind="stable")]
        shown = index[np.linspace(0, len(index) - 1, min(_WIDE, len(index))).round().astype(int)]
        axes.imshow(colour_V3[shown][None], extent=(0, 1, row + 0.4, row - 0.4), aspect="auto", interpolation="nearest")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [f"{short(name)} ({len(members[name]):,})" for name in names], fontsize="small")
    axes.set_xticks([])
    axes.set_xlabel("voxels of each region, by component 1", fontsize="small")
    axes.spines[:].set_visible(False)
