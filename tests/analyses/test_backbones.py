"""backbones: scores by region, and differences on the same voxels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.analyses.backbones import ALL, BACKBONES, Backbones

VOXELS = 40


def voxels(better: float = 0.1) -> pa.Table:
    """`judge` is better than `clip` by 0.1 in every voxel of faces, and equal elsewhere."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 0.5, VOXELS)
    rows: list[dict[str, Any]] = []
    for name in ("clip", "judge"):
        for voxel in range(VOXELS):
            face = voxel < 10
            rois = ["faces", "OFA"] if face else ["food"] if voxel < 30 else []
            r2 = base[voxel] + (better if face and name == "judge" else 0)
            key = {"subject": "s", "backbone": name, "voxel_id": voxel, "rois": rois, "status": "ok"}
            rows.append({**key, "r2": r2, "r": float(np.sqrt(r2)), "q": 0.01 if voxel % 2 else 0.5})
    rows[5]["status"], rows[5]["r2"], rows[5]["r"], rows[5]["q"] = "bad", None, None, None
    return pa.Table.from_pylist(rows)


def config_of(*names: str) -> Any:
    return SimpleNamespace(backbones=[SimpleNamespace(name=name) for name in names], seed=0)


def compared(table: pa.Table, *names: str) -> dict[tuple[str, str], dict[str, Any]]:
    result = Backbones(config_of(*names)).run({"voxels": table})
    assert result.schema.equals(BACKBONES)
    return {(row["roi"], row["backbone"]): row for row in result.to_pylist()}


def test_scores_and_paired_differences_by_region() -> None:
    rows = compared(voxels(), "clip", "judge")
    assert {roi for roi, _ in rows} == {ALL, "faces", "OFA", "food"}
    faces = rows["faces", "judge"]
    assert faces["voxels"] == 10 and rows["faces", "clip"]["voxels"] == 9, "a voxel that is not ok has no score"
    for name in ("difference", "difference_low", "difference_high"):
        assert faces[name] == pytest.approx(0.1, abs=1e-9), "paired: the spread of voxels plays no part"
        assert rows["food", "judge"][name] == pytest.approx(0, abs=1e-9)
        assert rows["faces", "clip"][name] is None
    everything = rows[ALL, "judge"]
    assert everything["voxels"] == VOXELS and everything["significant"] == 0.5
    assert everything["difference"] == pytest.approx(0.1 * 9 / 39)
    assert everything["difference_low"] < everything["difference"] < everything["difference_high"]
    assert everything["median_r2"] == pytest.approx(np.median(voxels().to_pandas().query("backbone == 'judge'")["r2"]))


def test_the_first_backbone_is_the_reference() -> None:
    rows = compared(voxels(), "judge", "clip")
    assert rows["OFA", "clip"]["reference"] == "judge" and rows["OFA", "clip"]["difference"] == pytest.approx(-0.1)


def test_without_p_there_is_no_share_of_significant_voxels() -> None:
    table = voxels()
    table = table.set_column(table.column_names.index("q"), "q", pa.nulls(len(table), pa.float64()))
    assert compared(table, "clip", "judge")[ALL, "clip"]["significant"] is None
