"""backbones: how well each backbone predicts held-out responses, by subject and region, on the same voxels.

A voxel counts for every region it belongs to, and once for `all voxels`. Differences are paired: a voxel's R2 under a backbone
minus its R2 under the reference, the first backbone of the configuration, averaged over voxels. The low-level baseline, where it
was fitted, comes last. The interval is a bootstrap over voxels: they share noise and images, so it says how sure the mean of
*these* voxels is, not of another subject's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.recovery_summary import bootstrap
from scuba_ray.config import RunConfig

ALL = "all voxels"
FDR = 0.05
DRAWS = 2000
"""Bootstrap draws."""

BACKBONES = pa.schema(
    [
        ("subject", pa.string()),
        ("roi", pa.string()),
        ("backbone", pa.string()),
        ("voxels", pa.int64()),
        ("median_r2", pa.float64()),
        ("mean_r2", pa.float64()),
        ("median_r", pa.float64()),
        ("mean_r", pa.float64()),
        ("significant", pa.float64()),
        ("reference", pa.string()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
    ]
)
"""`voxels` have a score. `significant` is the share of voxels with q < .05, null where no q was computed. `difference` is null
for the reference itself."""


class Backbones:
    """Scores of all backbones of a run, side by side."""

    name = "backbones"
    version = 1
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "voxels": ("subject", "backbone", "voxel_id", "rois", "status", "r2", "r", "q")
    }

    def __init__(self, config: RunConfig) -> None:
        self._names = [backbone.name for backbone in config.backbones]
        self._seed = config.seed

    @staticmethod
    def lacking(config: RunConfig) -> str | None:
        """It takes two backbones; asked for by name, it holds a single one against the low-level baseline."""
        return None if len(config.backbones) > 1 else f"compares backbones, and {config.backbones[0].name} is the only one"

    def fingerprint(self) -> Mapping[str, Any]:
        """Order of the backbones (the first is the reference) and the bootstrap."""
        return {"backbones": self._names, "seed": self._seed, "draws": DRAWS}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, region and backbone; see `BACKBONES`."""
        voxels = tables["voxels"]
        voxels = voxels.filter(pc.and_(pc.equal(voxels["status"], "ok"), pc.is_valid(voxels["r2"])))
        rows: list[dict[str, Any]] = []
        names = dict.fromkeys([*self._names, *voxels["backbone"].to_pylist()])
        for subject in dict.fromkeys(voxels["subject"].to_pylist()):
            scores = {name: self._by_region(voxels, subject, name) for name in names}
            regions = sorted({region for by_region in scores.values() for region in by_region} - {ALL})
            for region in (ALL, *regions):
                first = scores[self._names[0]].get(region, {})
                for name in names:
                    mine = scores[name].get(region, {})
                    if mine:
                        key = {"subject": subject, "roi": region, "backbone": name, "reference": self._names[0]}
                        rows.append({**key, **_figures(mine), **(self._difference(mine, first) if mine is not first else {})})
        return pa.Table.from_pylist(rows, schema=BACKBONES)

    def _by_region(self, voxels: pa.Table, subject: str, backbone: str) -> dict[str, dict[int, dict[str, Any]]]:
        """For each region its voxels' scores by voxel_id."""
        own = voxels.filter(pc.and_(pc.equal(voxels["subject"], subject), pc.equal(voxels["backbone"], backbone)))
        regions: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for row in own.select(["voxel_id", "rois", "r2", "r", "q"]).to_pylist():
            for region in (ALL, *(row["rois"] or ())):
                regions[region][row["voxel_id"]] = row
        return regions

    def _difference(self, mine: Mapping[int, Mapping[str, Any]], first: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
        """Paired difference over the voxels that have both scores; nothing where no voxel has."""
        gain_V = np.array([row["r2"] - first[voxel]["r2"] for voxel, row in mine.items() if voxel in first], np.float64)
        if not len(gain_V):
            return {}
        low, high = bootstrap(gain_V, self._seed, DRAWS)
        return {"difference": float(gain_V.mean()), "difference_low": low, "difference_high": high}


def _figures(scores: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"voxels": len(scores)}
    for name in ("r2", "r"):
        values = np.array([row[name] for row in scores.values() if row[name] is not None], np.float64)
        figures[f"median_{name}"] = float(np.median(values)) if len(values) else None
        figures[f"mean_{name}"] = float(values.mean()) if len(values) else None
    q = [row["q"] for row in scores.values() if row["q"] is not None]
    figures["significant"] = sum(value < FDR for value in q) / len(q) if q else None
    return figures
