"""Methods and controls side by side: means, paired differences and what counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.analyses.comparison import ALL, Comparison
from scuba_ray.errors import ConfigError
from scuba_ray.tables.ways import CONCEPTS
from tests.study import TinyStudy


def tables(count: int = 60) -> dict[str, pa.Table]:
    """Voxels 0 to count - 1, the last ten below the ceiling; brainscuba scores .1 more than its control, noise shared."""
    noise_V = np.random.default_rng(0).normal(0, 0.05, count)
    rows: list[dict[str, Any]] = []
    for voxel in range(count):
        for method, level in (("brainscuba", 0.3), ("shuffled-within-roi", 0.2), ("most-frequent", 0.1)):
            if method == "shuffled-within-roi" and voxel % 2:
                continue
            row = {
                "subject": "s",
                "backbone": "b",
                "voxel_id": voxel,
                "partition": -1,
                "method": method,
                "rank": 0,
                "judge": "own",
            }
            rows.append({**row, "heldout_r": level + noise_V[voxel], "ceiling_fraction": 0.5, "drive_percentile": None})
        rows.append({**rows[-1], "partition": 2, "heldout_r": 9.0})
        rows.append({**rows[-1], "partition": -1, "rank": 1})
    voxels = {
        "subject": ["s"] * count,
        "backbone": ["b"] * count,
        "voxel_id": range(count),
        "rois": [["faces"] if voxel < 20 else [] for voxel in range(count)],
        "noise_ceiling": [0.2 if voxel >= count - 10 else 0.5 for voxel in range(count)],
    }
    schema = pa.schema([("drive_percentile", pa.float32())])
    scores = pa.Table.from_pylist(rows)
    scores = scores.set_column(scores.column_names.index("drive_percentile"), schema.field(0), pa.nulls(len(rows), pa.float32()))
    return {"scores": scores, "voxels": pa.table({name: list(values) for name, values in voxels.items()})}


def test_paired_differences_over_voxels_that_have_both(study: TinyStudy) -> None:
    table = Comparison(study.config(score={})).run(tables())
    rows = {(row["roi"], row["method"]): row for row in table.to_pylist()}
    plain = rows[ALL, "brainscuba"]
    assert plain["voxels"] == 50, "voxels below the ceiling, partitions and further ranks do not count"
    assert plain["low"] < plain["heldout_r"] < plain["high"] and plain["heldout_r"] == pytest.approx(0.3, abs=0.03)
    assert plain["minus_within_roi"] == pytest.approx(0.1, abs=1e-6)
    assert plain["low_minus_within_roi"] == pytest.approx(0.1, abs=1e-6), "the noise is shared, so it cancels"
    assert plain["minus_most_frequent"] == pytest.approx(0.2, abs=1e-6) and plain["minus_plain"] is None
    assert rows[ALL, "shuffled-within-roi"]["minus_plain"] == pytest.approx(-0.1, abs=1e-6)
    assert rows["faces", "brainscuba"]["voxels"] == 20 and rows["faces", "shuffled-within-roi"]["voxels"] == 10
    assert plain["ceiling_fraction"] == pytest.approx(0.5) and plain["drive_percentile"] is None


def test_captions_per_concept_are_one_method_by_their_mean(study: TinyStudy) -> None:
    found = tables()
    rows = [row for row in found["scores"].to_pylist() if row["partition"] == -1 and row["rank"] == 0]
    more = [{**row, "rank": rank, "heldout_r": 0.1 * rank} for row in rows if row["voxel_id"] < 30 for rank in (1, 2, 3)]
    found["scores"] = pa.Table.from_pylist([*rows, *more], schema=found["scores"].schema)
    by_method = {row["method"]: row for row in Comparison(study.config(score={})).run(found).to_pylist() if row["roi"] == ALL}
    concepts = by_method[CONCEPTS]
    assert concepts["voxels"] == 30 and concepts["heldout_r"] == pytest.approx(0.2), "further ranks of controls do not count"
    assert concepts["minus_plain"] == pytest.approx(-0.1, abs=0.05) and by_method["brainscuba"]["voxels"] == 50


def test_a_single_voxel_has_a_mean_and_no_interval(study: TinyStudy) -> None:
    table = Comparison(study.config(score={})).run(tables(11))
    plain = next(row for row in table.to_pylist() if (row["roi"], row["method"]) == (ALL, "brainscuba"))
    assert plain["voxels"] == 1 and plain["minus_most_frequent"] == pytest.approx(0.2, abs=1e-6)
    assert [plain[name] for name in ("low", "high", "low_minus_most_frequent", "high_minus_most_frequent")] == [None] * 4


def test_without_scores_there_is_nothing_to_compare(study: TinyStudy) -> None:
    with pytest.raises(ConfigError, match="makes none"):
        Comparison(study.config())
