"""Columns of scores, bands and support: unpacked they are the numbers of the tables."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scuba_ray.report.explorer import gather
from scuba_ray.report.packed import MISSING, steps
from tests.report.analysed import HOSTILE_NOUN, control_text, heldout_r, write_evidence
from tests.report.synthetic import Written, write_run


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Written:
    written = write_run(tmp_path_factory.mktemp("proven"), voxels=20)
    write_evidence(written)
    return written


@pytest.fixture(scope="module")
def data(proven: Written) -> Any:
    return gather(proven.run, proven.config)


@pytest.fixture(scope="module")
def one(data: Any) -> Any:
    return data["sets"][0]


def unpacked(text: str, kind: str = "<i2") -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_steps_keep_four_decimals_and_mark_what_is_missing() -> None:
    values = [0.12344, -0.5, None, float("nan"), 9.0, -9.0]
    assert unpacked(steps(values)).tolist() == [1234, -5000, MISSING, MISSING, 32767, -32767]


def test_scores_stand_beside_their_controls(one: Any) -> None:
    order = [(entry["judge"], entry["method"], entry["control"]) for entry in one["judged"]]
    assert order[:3] == [("own", "brainscuba", False), ("own", "shuffled", True), ("own", "most-frequent", True)]
    assert {judge for judge, _, _ in order[3:]} == {"judge"}
    for entry in one["judged"]:
        wanted = [heldout_r(voxel, entry["method"], entry["judge"]) for voxel in one["voxel"]]
        found = [None if step == MISSING else step / 1e4 for step in unpacked(entry["r"]).tolist()]
        assert found == pytest.approx([value if value is not None else None for value in wanted], abs=1e-4)


def test_captions_of_controls_are_kept_once(data: Any, one: Any) -> None:
    said = {entry["method"]: unpacked(entry["said"], "<i4").tolist() for entry in one["judged"] if "said" in entry}
    assert set(said) == {"shuffled", "most-frequent"} and sum("said" in entry for entry in one["judged"]) == 2
    for method, numbers in said.items():
        assert [data["texts"][number] for number in numbers] == [control_text(voxel, method) for voxel in one["voxel"]]


def test_bands_and_the_flag(one: Any) -> None:
    (band,) = one["bands"]
    assert band["name"] == "low-level" and [one["voxel"][row] for row in band["explained"]] == [106]
    assert set(unpacked(band["unique_first"]).tolist()) == {3000} and set(unpacked(band["unique_second"]).tolist()) == {-500}


def test_support_of_each_noun(one: Any) -> None:
    (entry,) = one["support"]["captions"]
    words, counts = one["support"]["words"], unpacked(entry["counts"], "u1")
    assert (entry["method"], entry["rank"]) == ("brainscuba", 0) and counts.tolist() == [1 + voxel % 3 for voxel in one["voxel"]]
    codes, row = unpacked(entry["nouns"], "<u4"), one["voxel"].index(101)
    start = counts[:row].sum()
    said = [(words[code // 4], code % 4) for code in codes[start : start + counts[row]].tolist()]
    assert said == [("bowl", 1), (HOSTILE_NOUN, 0), ("pasta", 2)]


def test_a_run_without_such_tables_has_none(tmp_path: Path) -> None:
    written = write_run(tmp_path, voxels=12)
    (one,) = gather(written.run, written.config)["sets"]
    assert (one["judged"], one["bands"], one["support"]) == ([], [], None)
