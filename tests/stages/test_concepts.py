"""A caption per concept: as many as a voxel has, by falling share, and the single caption's own answer where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from scuba_ray.tables.schemas import CAPTIONS
from tests.stages.lavca_steps import concepts, nearest, steps_of
from tests.stages.pictured import write_world

VOXELS = ["dog", "apple horse", "car lamp", "tree"]


def rows_of(folder: Path, **settings: object) -> dict[int, list[dict[str, object]]]:
    bank = write_world(folder, voxels=VOXELS, copies=8)
    steps = steps_of(folder)
    done = concepts(steps, nearest(steps, bank), dict(settings))
    table = steps.run.read("captions", key=done.key)
    assert table.schema.equals(CAPTIONS)
    rows: dict[int, list[dict[str, object]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["voxel_id"], []).append(row)
    return rows


def test_each_concept_has_its_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, threshold=0.3, chunk=3)
    assert sorted(rows) == [10, 11, 12, 13]
    for one in rows.values():
        assert [row["rank"] for row in one] == list(range(1, len(one) + 1))
        share = np.array([row["share"] for row in one])
        assert share.sum() == pytest.approx(1, abs=1e-5) and (np.diff(share) <= 1e-7).all()
        assert {(row["method"], row["partition"]) for row in one} == {("brainscuba", -1)}
        assert all(row["logprob"] == -1 for row in one)
    for voxel, words in ((11, {"apple", "horse"}), (12, {"car", "lamp"})):
        nouns = [set(row["nouns"]) for row in rows[voxel]]
        assert set().union(*nouns) >= words and not any(one >= words for one in nouns), "no picture shows both"


def test_a_threshold_that_nothing_reaches_leaves_one_concept(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, threshold=0.99)
    assert [(len(one), one[0]["share"]) for one in rows.values()] == [(1, pytest.approx(1))] * 4
    assert "dog" in rows[10][0]["nouns"]


def test_a_voxel_whose_pictures_are_not_there_is_quarantined(tmp_path: Path) -> None:
    bank = write_world(tmp_path, voxels=["dog", "car", "tree"])
    write_world(tmp_path / "other", voxels=["dog", "tree"])
    steps, other = steps_of(tmp_path), steps_of(tmp_path / "other")
    pictures = nearest(other, bank, pictures=3)
    shutil.copytree(tmp_path / "other" / "nearest_pictures", tmp_path / "nearest_pictures")
    done = concepts(steps, pictures, {"pictures": 3})
    assert set(steps.run.read("captions", key=done.key)["voxel_id"].to_pylist()) == {10, 12}
    assert steps.run.quarantine()["key"].to_pylist() == ["subject=subj01, voxel_id=11"]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunks_change_nothing(tmp_path: Path, chunk: int) -> None:
    whole, cut = rows_of(tmp_path / "whole"), rows_of(tmp_path / "cut", chunk=chunk)
    strip = [[{k: v for k, v in row.items() if k != "share"} for row in rows] for one in (whole, cut) for rows in one.values()]
    assert strip[:4] == strip[4:]
    shares = [[row["share"] for rows in one.values() for row in rows] for one in (whole, cut)]
    np.testing.assert_allclose(*shares, rtol=1e-5)
