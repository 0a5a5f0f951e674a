"""comparison: all captioning methods and their controls side by side, as scored on held-out responses by each judge.

Counted are whole-bank captions at rank 0 of voxels whose noise ceiling is at least `CEILING`; a voxel counts for every region
it belongs to and once for `all voxels`. A voxel's captions per concept (rank 1 and on) are one method more, each by the mean of
its scores: to take the best of them by held-out responses would be to choose by what they are judged by. Differences are
paired: a method's score minus the control's (or the plain caption's) on the voxels that have both. Intervals are bootstraps
over voxels: they share noise and images, so an interval says how sure the mean of *these* voxels is, not of another subject's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.recovery_summary import CEILING, bootstrap
from scuba_ray.config import RunConfig
from scuba_ray.errors import ConfigError
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.ways import CONCEPTS, METHOD, MOST_FREQUENT, WITHIN_ROI

ALL = "all voxels"
DRAWS = 2000
"""Bootstrap draws."""
REFERENCES = {"within_roi": WITHIN_ROI, "most_frequent": MOST_FREQUENT, "plain": METHOD}
"""What a method's scores are compared with, by the name of the columns that say so."""

COMPARISON = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("roi", pa.string()),
        ("judge", pa.string()),
        ("method", pa.string()),
        ("voxels", pa.int64()),
        ("heldout_r", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        *((f"{kind}{name}", pa.float64()) for name in REFERENCES for kind in ("minus_", "low_minus_", "high_minus_")),
        ("ceiling_fraction", pa.float64()),
        ("drive_percentile", pa.float64()),
    ]
)
"""`heldout_r` is a mean over voxels with its 95 % interval; `minus_X` the mean paired difference with its own; the last two are
means. Null where there is nothing to compare with; a single voxel has no interval."""

_SCORES = ("heldout_r", "ceiling_fraction", "drive_percentile")
Scores = Mapping[str, Mapping[int, Mapping[str, Any]]]


class Comparison:
    """The comparison of all methods of a run.

    Raises
    ------
    ConfigError
        If the run scores no captions.
    """

    name = "comparison"
    version = 3
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "scores": (
            *("subject", "backbone", "voxel_id", "partition", "method", "rank", "judge"),
            *_SCORES,
        ),
        "voxels": ("subject", "backbone", "voxel_id", "rois", "noise_ceiling"),
    }

    def __init__(self, config: RunConfig) -> None:
        if why := self.lacking(config):
            raise ConfigError(f"analyses: comparison {why}")
        self._seed = config.seed

    @staticmethod
    def lacking(config: RunConfig) -> str | None:
        """It takes scores."""
        return None if config.score else "reads scores, and this run makes none: leave `score` at its default"

    def fingerprint(self) -> Mapping[str, Any]:
        """The bootstrap and what counts."""
        return {"seed": self._seed, "draws": DRAWS, "ceiling": CEILING}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, region, judge and method; see `COMPARISON`."""
        scores = tables["scores"]
        scores = scores.filter(pc.and_(pc.equal(scores["partition"], WHOLE_BANK), pc.is_valid(scores["heldout_r"])))
        rois = _rois(tables["voxels"])
        grouped: dict[tuple[str, str, str], dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
        for row in [*scores.filter(pc.equal(scores["rank"], 0)).to_pylist(), *_concepts(scores)]:
            if (row["subject"], row["backbone"], row["voxel_id"]) in rois:
                grouped[row["subject"], row["backbone"], row["judge"]][row["method"]][row["voxel_id"]] = row
        rows: list[dict[str, Any]] = []
        for (subject, backbone, judge), by_method in sorted(grouped.items()):
            regions = {name for voxels in by_method.values() for voxel in voxels for name in rois[subject, backbone, voxel]}
            for region in (ALL, *sorted(regions)):
                members = {
                    method: {v: row for v, row in voxels.items() if region == ALL or region in rois[subject, backbone, v]}
                    for method, voxels in sorted(by_method.items())
                }
                key = {"subject": subject, "backbone": backbone, "roi": region, "judge": judge}
                rows += [{**key, **self._row(method, members)} for method, voxels in members.items() if voxels]
        return pa.Table.from_pylist(rows, schema=COMPARISON)

    def _row(self, method: str, members: Scores) -> dict[str, Any]:
        mine = members[method]
        r_V = np.array([row["heldout_r"] for row in mine.values()], np.float64)
        low, high = self._interval(r_V)
        row: dict[str, Any] = {"method": method, "voxels": len(mine), "heldout_r": r_V.mean(), "low": low, "high": high}
        for name, reference in REFERENCES.items():
            theirs = members.get(reference, {})
            gain_V = np.array([one["heldout_r"] - theirs[v]["heldout_r"] for v, one in mine.items() if v in theirs], np.float64)
            if reference != method and len(gain_V):
                row[f"minus_{name}"] = gain_V.mean()
                row[f"low_minus_{name}"], row[f"high_minus_{name}"] = self._interval(gain_V)
        for name in ("ceiling_fraction", "drive_percentile"):
            values = [one[name] for one in mine.values() if one[name] is not None]
            row[name] = float(np.mean(values)) if values else None
        return row

    def _interval(self, values_V: np.ndarray) -> tuple[float | None, float | None]:
        """95 %; none of a single voxel, whose bootstrap would claim to be certain."""
        return bootstrap(values_V, self._seed, DRAWS) if len(values_V) > 1 else (None, None)


def _concepts(scores: pa.Table) -> list[dict[str, Any]]:
    """The captions per concept of each voxel as rows of one method, with their mean scores."""
    own = scores.filter(pc.and_(pc.equal(scores["method"], METHOD), pc.greater(scores["rank"], 0)))
    means = own.group_by(["subject", "backbone", "voxel_id", "judge"]).aggregate([(name, "mean") for name in _SCORES])
    return [
        {**row, "method": CONCEPTS}
        for row in means.rename_columns([name.removesuffix("_mean") for name in means.column_names]).to_pylist()
    ]


def _rois(voxels: pa.Table) -> dict[tuple[str, str, int], list[str]]:
    """Regions of each voxel that counts."""
    counted = voxels.filter(pc.fill_null(pc.greater_equal(voxels["noise_ceiling"], CEILING), False))
    return {(row["subject"], row["backbone"], row["voxel_id"]): row["rois"] or [] for row in counted.to_pylist()}
