"""The figure of agreement between subjects: one pair, many, one region, and what is not known."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from scuba_ray.analyses.agreement import AGREEMENT, compare, predict
from scuba_ray.report.figure_agreement import draw_agreement
from scuba_ray.report.figure_texts import texts
from scuba_ray.report.palette import region_colours
from tests.analyses.test_agreement import DIM, ROIS, subject
from tests.report.test_figures import colours, rgb


def rows_of(*names: str) -> list[dict[str, Any]]:
    said = {name: subject(seed) for seed, name in enumerate(names)}
    rng = np.random.default_rng(0)
    seen = {name: (rng.normal(size=(9, DIM)), rng.normal(size=(len(ROIS), 9))) for name in names}
    how: dict[str, Any] = {"backbone": "clip", "seed": 0, "permutations": 20}
    return [*compare(ROIS, 2, said, **how), *predict(ROIS, said, seen, **how)]


def test_gains_lie_beside_what_permutations_give() -> None:
    rows = rows_of("a", "b", "c")
    known = [row for row in rows if row.get("p") is not None]
    assert known and all(row["shuffled_low"] <= row["shuffled"] <= row["shuffled_high"] for row in known)
    table = pa.Table.from_pylist(rows, schema=AGREEMENT)
    assert {rgb(colour) for colour in region_colours(ROIS).values()} <= colours(draw_agreement(table))
    assert len([row for row in rows if row["measure"] == "nouns"]) == len(ROIS) * len(list(combinations("abc", 2)))
    assert texts("agreement", table)["alt"].startswith("Agreement of subjects. a with b, faces, nouns: gain ")


def test_what_is_not_known_is_said() -> None:
    row = {
        "subject": "a",
        "other": "b",
        "backbone": "clip",
        "roi": "faces",
        "value": 0.5,
        "note": "no other region to compare with",
    }
    table = pa.Table.from_pylist(
        [{**row, "measure": measure} for measure in ("nouns", "embedding", "prediction")], schema=AGREEMENT
    )
    assert Image.open(io.BytesIO(draw_agreement(table))).format == "PNG"
    assert "no other region" in texts("agreement", table)["alt"]
