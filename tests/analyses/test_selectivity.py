"""Narrowness and certainty: medians of what is known, agreement of captions beside chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.analyses.selectivity import UNITS, Selectivity, caption_agreement
from scuba_ray.analyses.spoken import ALL
from tests.analyses.planted import PARTITIONS, caption_row, planted_tables, tables, voxel_row
from tests.study import TinyStudy


def projected(found: dict[str, pa.Table], split_half: float | None = 0.5) -> dict[str, pa.Table]:
    """With projections: n_eff is 1 + the voxel's number, except in rows of partitions, which must not be read."""
    ids = found["voxels"]["voxel_id"].to_pylist()
    rows = [
        {"subject": "s", "backbone": "b", "voxel_id": voxel, "partition": part, "n_eff": 1.0 + voxel if part < 0 else 999.0,
         "bank_agreement": 0.25, "half_agreement": 0.75}
        for voxel in reversed(ids) for part in (-1, 3)
    ]  # fmt: skip
    column = pa.array([split_half] * len(ids), pa.float32())
    return {**found, "projections": pa.Table.from_pylist(rows), "voxels": found["voxels"].append_column("split_half", column)}


def regions(table: pa.Table, measure: str) -> dict[str, dict[str, Any]]:
    return {row["roi"]: row for row in table.to_pylist() if row["level"] == "roi" and row["measure"] == measure}


def test_agreement_of_captions_is_what_was_planted_and_chance_is_less(study: TinyStudy) -> None:
    found, truths = planted_tables(voxels=400, told=0.9)
    table = Selectivity(study.config()).run(projected(found))
    rows = regions(table, "caption_agreement")
    assert all(rows[roi]["mean"] > 2 * rows[roi]["chance"] for roi in (ALL, "bodies", "faces", "words"))
    by_voxel = {
        row["voxel_id"]: row["value"]
        for row in table.to_pylist()
        if (row["level"], row["measure"]) == ("voxel", "caption_agreement")
    }
    assert len(by_voxel) == sum(one.voxel_class not in ("null", "nuisance") for one in truths)
    assert np.median(list(by_voxel.values())) == pytest.approx(rows[ALL]["value"])


def test_medians_and_quartiles_of_the_whole_bank(study: TinyStudy) -> None:
    captions = [caption_row(voxel, "a dog.") for voxel in range(5)]
    table = Selectivity(study.config()).run(projected(tables(captions, [voxel_row(v, ["faces"]) for v in range(5)])))
    row = regions(table, "n_eff")["faces"]
    assert (row["value"], row["low"], row["high"], row["voxels"], row["unit"]) == (3.0, 2.0, 4.0, 5, "images")
    assert regions(table, "bank_agreement")["faces"]["value"] == 0.25
    silent = regions(table, "caption_agreement")["faces"]
    assert silent["value"] is None and silent["note"] == "not known for any voxel of this region", "no partition was captioned"


def test_jaccard() -> None:
    a, b, none = frozenset({"dog", "cat"}), frozenset({"dog"}), frozenset[str]()
    np.testing.assert_allclose(caption_agreement([[a, none, a, None], [b, none, none, a]], 4), [0.5, 1.0, 0.0, np.nan])
    np.testing.assert_allclose(caption_agreement([[a], [b], [b]], 1), [(0.5 + 0.5 + 1) / 3])
    assert np.isnan(caption_agreement([[a]], 1)).all() and len(caption_agreement([], 0)) == 0


def test_edge_cases_are_told(study: TinyStudy) -> None:
    captions = [caption_row(voxel, "a dog.", partition=part) for voxel in range(3) for part in PARTITIONS]
    voxels = [voxel_row(0, ["one"]), voxel_row(1, []), voxel_row(2, ["none"], q=0.5)]
    table = Selectivity(study.config()).run(projected(tables(captions, voxels), split_half=None))
    assert regions(table, "n_eff")["one"]["note"].startswith("one voxel") and regions(table, "n_eff")["one"]["low"] is None
    assert regions(table, "n_eff")["none"]["voxels"] == 0 and "no voxel" in regions(table, "n_eff")["none"]["note"]
    assert regions(table, "split_half")[ALL]["value"] is None, "weights fitted elsewhere"
    nothing = Selectivity(study.config()).run(projected(tables(captions, [voxel_row(v, None, q=0.5) for v in range(3)])))
    assert len(nothing) == len(UNITS) and all(row["value"] is None for row in nothing.to_pylist())
