"""Figures of a finished run, as PNG beside the table they show: names with an underscore, which readers of Parquet skip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.backbones import ALL
from scuba_ray.report.figure_agreement import draw_agreement
from scuba_ray.report.figure_clusters import draw_clusters
from scuba_ray.report.figure_evidence import draw_recovery, draw_support
from scuba_ray.report.figure_map import draw_map
from scuba_ray.report.figure_marks import short
from scuba_ray.report.figure_methods import draw_methods
from scuba_ray.report.figure_probe import draw_probe
from scuba_ray.report.figure_regions import draw_person, draw_selectivity
from scuba_ray.report.figure_synthesis import COLUMNS as IMAGE_COLUMNS
from scuba_ray.report.figure_synthesis import draw_synthesis
from scuba_ray.report.figure_terms import draw_terms
from scuba_ray.report.palette import EVERYWHERE, NOWHERE, region_colours
from scuba_ray.report.png import png_of
from scuba_ray.report.synthesised import made_for_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scuba_ray.tables.store import RunFolder

WIDEST = 14.0
"""Inches of a panel of boxes; with more regions they are narrower."""
SYNTHESIS, PROBE = "analyses/synthesis", "analyses/probe"
_COLUMNS = ("subject", "backbone", "voxel_id", "rois", "status", "r2")

Draw = Callable[[pa.Table, "RunFolder"], bytes]
"""From the table of an analysis, and the run for what else is shown, to a PNG."""
_DRAWN: dict[str, Draw] = {
    "nouns": lambda table, run: draw_terms(table, "noun"),
    "beyond_nouns": lambda table, run: draw_terms(table, "term"),
    "person": lambda table, run: draw_person(table),
    "selectivity": lambda table, run: draw_selectivity(table),
    "clusters": lambda table, run: draw_clusters(table, made_for_parts(run)),
    "embedding_map": lambda table, run: draw_map(table, run.read("voxels", columns=list(_COLUMNS[:4]))),
    "comparison": lambda table, run: draw_methods(table, run.read(SYNTHESIS) if run.keys(SYNTHESIS) else None),
    "synthesis": lambda table, run: draw_synthesis(table, run.read("images", columns=list(IMAGE_COLUMNS)), _chance(run)),
    "probe": lambda table, run: draw_probe(table),
    "support": lambda table, run: draw_support(table, run.read("voxels", columns=list(_COLUMNS[:4])), _level(run)),
    "recovery": lambda table, run: draw_recovery(table),
    "agreement": lambda table, run: draw_agreement(table),
    "backbones": lambda table, run: draw_backbones(table, run.read("voxels", columns=list(_COLUMNS))),
}
"""Analyses that have a figure, in the order of the page."""


def draw(run: RunFolder) -> dict[str, bytes]:
    """Every figure there is something for, by the name of the file it belongs in (RUN/`name`)."""
    found = {}
    for name, draw_one in _DRAWN.items():
        table = run.read(f"analyses/{name}") if run.keys(f"analyses/{name}") else pa.table({})
        if len(table):
            found[f"analyses/{name}/_figure.png"] = draw_one(table, run)
    return found


def _chance(run: RunFolder) -> float | None:
    """Share of a category of the probe by chance, where the run has that analysis."""
    probed = run.read(PROBE) if run.keys(PROBE) else pa.table({})
    return probed["chance"][0].as_py() if len(probed) else None


def _level(run: RunFolder) -> float:
    """Up to which p a noun counts as supported."""
    level: float = run.read_run_json()["config"]["support"]["level"]
    return level


def draw_backbones(table: pa.Table, voxels: pa.Table) -> bytes:
    """Held-out R2 by region and backbone, and voxel by voxel against the reference; one row per subject. PNG.

    Parameters
    ----------
    table : pa.Table
        What the analysis `backbones` wrote.
    voxels : pa.Table
        Columns subject, backbone, voxel_id, rois, status, r2.
    """
    # matplotlib takes a second to load: only where there is something to draw
    from matplotlib.figure import Figure

    subjects = list(dict.fromkeys(table["subject"].to_pylist()))
    names = list(dict.fromkeys([table["reference"][0].as_py(), *table["backbone"].to_pylist()]))
    regions = list(dict.fromkeys(table["roi"].to_pylist()))
    colours = {ALL: EVERYWHERE, **region_colours(region for region in regions if region != ALL)}
    wide = min(max(4.5, 0.36 * len(regions) * len(names) + 1.2), WIDEST)
    figure = Figure(figsize=(wide + 3.9 * (len(names) - 1), 3.9 * len(subjects)), layout="constrained")
    grid = figure.subplots(len(subjects), len(names), squeeze=False, width_ratios=[wide, *[3.9] * (len(names) - 1)])
    for axes, subject in zip(grid, subjects, strict=True):
        scores = {name: _scores(voxels, subject, name) for name in names}
        _boxes(axes[0], scores, regions, colours)
        # the legend is below the name
        axes[0].set_title(f"{subject}\n", loc="left", fontweight="bold")
        for panel, name in zip(axes[1:], names[1:], strict=True):
            _pairs(panel, scores, names[0], name, colours)
    return png_of(figure)


def _scores(voxels: pa.Table, subject: str, backbone: str) -> dict[int, tuple[float, list[str]]]:
    """R2 and regions of the voxels that have a score."""
    mine = pc.and_(pc.equal(voxels["subject"], subject), pc.equal(voxels["backbone"], backbone))
    own = voxels.filter(pc.and_(mine, pc.and_(pc.equal(voxels["status"], "ok"), pc.is_valid(voxels["r2"]))))
    columns = (own[name].to_pylist() for name in ("voxel_id", "r2", "rois"))
    return {voxel: (r2, rois or []) for voxel, r2, rois in zip(*columns, strict=True)}


def _boxes(axes: Axes, scores: dict[str, Any], regions: Sequence[str], colours: dict[str, str]) -> None:
    """A box per region and backbone: median, quartiles, 5th and 95th percentile. Backbones differ in how full their colour is."""
    from matplotlib.patches import Patch

    width = 0.8 / len(scores)
    strengths = np.linspace(1, 0.3, len(scores))
    for rank, own in enumerate(scores.values()):
        for place, region in enumerate(regions):
            values = [r2 for r2, rois in own.values() if region == ALL or region in rois]
            if values:
                box = axes.boxplot(
                    [values],
                    positions=[place + (rank - (len(scores) - 1) / 2) * width],
                    widths=0.85 * width,
                    whis=(5, 95),
                    showfliers=False,
                    patch_artist=True,
                    medianprops={"color": "black", "linewidth": 1.5},
                    manage_ticks=False,
                )
                box["boxes"][0].set(facecolor=colours[region], alpha=strengths[rank])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(
        range(len(regions)),
        [short(name) for name in regions],
        rotation=30 if len(regions) > 5 else 0,
        ha="right" if len(regions) > 5 else "center",
    )
    axes.set_ylabel("R² on held-out images\n(share of variance)")
    keys = [Patch(facecolor=EVERYWHERE, alpha=strength, label=name) for strength, name in zip(strengths, scores, strict=True)]
    axes.legend(handles=keys, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(keys), frameon=False, borderaxespad=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _pairs(axes: Axes, scores: dict[str, Any], reference: str, name: str, colours: dict[str, str]) -> None:
    """Each voxel's R2 under a backbone against the reference, coloured by its first region."""
    first, second = scores[reference], scores[name]
    both = [
        (first[voxel][0], r2, colours.get(rois[0], NOWHERE) if rois else NOWHERE)
        for voxel, (r2, rois) in second.items()
        if voxel in first
    ]
    axes.set(xlabel=f"R², {reference}", ylabel=f"R², {name}")
    axes.spines[["top", "right"]].set_visible(False)
    if not both:
        axes.text(0.5, 0.5, "no voxel has both scores", ha="center", transform=axes.transAxes)
        return
    x, y, colour = zip(*both, strict=True)
    low, high = min(*x, *y), max(*x, *y)
    ends = (low - 0.04 * (high - low + 1e-3), high + 0.04 * (high - low + 1e-3))
    axes.plot(ends, ends, color="black", linewidth=0.6)
    # in random order, so that no region hides the others
    order = np.random.default_rng(0).permutation(len(x))
    axes.scatter(np.array(x)[order], np.array(y)[order], c=np.array(colour)[order], s=8, alpha=0.6, linewidths=0, rasterized=True)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.locator_params(nbins=5)
    above = np.mean(np.array(y) > np.array(x))
    axes.set_title(f"{above:.0%} of {len(x):,} voxels above the diagonal", fontsize="small", loc="left")
