"""The recovery table in a few lines: rates per voxel class and method, and how much of them the region alone explains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.tables.ways import METHOD, MOST_FREQUENT, SHUFFLED, WITHIN_ROI

METHODS = (METHOD, SHUFFLED, WITHIN_ROI, MOST_FREQUENT)
"""Captions that are held against what was planted: the voxel's own, and the controls."""
CEILING = 0.3
"""Estimated noise ceiling from which on a voxel counts: below it there is little to be named."""
DRAWS = 10_000
"""Bootstrap draws."""
_CLASSES = ("single", "double", "broad", "confound")
_CELLS = 1 << 22

SUMMARY = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_class", pa.string()),
        ("method", pa.string()),
        ("voxels", pa.int64()),
        ("rate", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("gain", pa.float64()),
        ("gain_low", pa.float64()),
        ("gain_high", pa.float64()),
        ("precision", pa.float64()),
        ("both", pa.float64()),
        ("both_concepts", pa.float64()),
        ("companion", pa.float64()),
        ("driver_and_companion", pa.float64()),
    ]
)
"""`rate` is the mean of `chance` with its 95 % bootstrap interval over voxels. `gain` is the mean over voxels of the method minus
captions shuffled within the region. `precision` is a mean over voxels whose caption names anything. `both` is for double voxels,
`both_concepts` the same of their captions per concept together; `companion` and `driver_and_companion` are for confound voxels,
whose `rate` counts the driver."""


def summarise(recovery: pa.Table, *, ceiling: float = CEILING, seed: int = 0, draws: int = DRAWS) -> pa.Table:
    """Rates by subject, backbone, voxel class and method, for voxels whose estimated noise ceiling is at least `ceiling`.

    Parameters
    ----------
    recovery : pa.Table
        What the recovery analysis wrote.
    ceiling : float
        Share of variance; voxels whose ceiling is unknown do not count.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    pa.Table
        See `SUMMARY`; classes without a voxel have no row.
    """
    counted = recovery.filter(pc.fill_null(pc.greater_equal(recovery["noise_ceiling"], ceiling), False))
    rows: list[dict[str, Any]] = []
    subjects = sorted(set(zip(counted["subject"].to_pylist(), counted["backbone"].to_pylist(), strict=True)))
    for subject, backbone in subjects:
        own = counted.filter(pc.and_(pc.equal(counted["subject"], subject), pc.equal(counted["backbone"], backbone)))
        for kind in _CLASSES:
            members = own.filter(pc.equal(own["voxel_class"], kind))
            by_method = {method: members.filter(pc.equal(members["method"], method)).sort_by("voxel_id") for method in METHODS}
            for method, part in by_method.items():
                if len(part):
                    key = {"subject": subject, "backbone": backbone, "voxel_class": kind, "method": method}
                    rows.append({**key, **_figures(part, by_method[WITHIN_ROI], seed, draws)})
    return pa.Table.from_pylist(rows, schema=SUMMARY)


def _figures(part: pa.Table, shuffled: pa.Table, seed: int, draws: int) -> dict[str, Any]:
    chance_V = part["chance"].to_numpy().astype(np.float64)
    low, high = bootstrap(chance_V, seed, draws)
    figures = {"voxels": len(part), "rate": chance_V.mean(), "low": low, "high": high}
    if part["method"][0].as_py() == METHOD:
        gain_V = chance_V - shuffled["chance"].to_numpy()
        figures["gain"] = gain_V.mean()
        figures["gain_low"], figures["gain_high"] = bootstrap(gain_V, seed, draws)
    figures["precision"] = pc.mean(part["precision"]).as_py()
    figures["both"] = pc.mean(part["hit_both"]).as_py()
    figures["both_concepts"] = pc.mean(part["hit_both_concepts"]).as_py()
    figures["companion"] = pc.mean(part["companion_hit"]).as_py()
    if figures["companion"] is not None:
        figures["driver_and_companion"] = pc.mean(pc.and_(part["hit"], part["companion_hit"])).as_py()
    return figures


def bootstrap(values_V: np.ndarray, seed: int, draws: int) -> tuple[float, float]:
    """Percentile 95 % interval of a mean over voxels. Memory: `_CELLS` * 16 bytes."""
    generator = np.random.default_rng(seed)
    count = len(values_V)
    size = max(1, _CELLS // count)
    tiles = [min(size, draws - start) for start in range(0, draws, size)]
    means = np.concatenate([values_V[generator.integers(0, count, (tile, count))].mean(1) for tile in tiles])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
