"""A caption per concept: as many as a voxel has, by falling share, and the single caption's own answer where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scuba_ray.protocols import CaptionBeam
from scuba_ray.tables.schemas import CAPTIONS
from tests.stages.lavca_steps import concepts, nearest, steps_of
from tests.stages.pictured import WordCaptioner, blend, write_world

VOXELS = ["dog", "apple horse", "car lamp", "tree"]


class DistractedCaptioner(WordCaptioner):
    """Likes other sentences better than the one that is right, and says some things twice."""

    def captions(self, embeddings_VD: torch.Tensor, keys: Sequence[str] | None = None) -> list[list[CaptionBeam]]:
        liked = [CaptionBeam("the cloud.", -0.1), CaptionBeam("", -0.2), CaptionBeam("a cloud.", -0.3)]
        right = [beams[0].text for beams in super().captions(embeddings_VD, keys)]
        return [[*liked, CaptionBeam(text, -0.4), CaptionBeam(text, -0.5)] for text in right]


def rows_of(folder: Path, captioner: WordCaptioner | None = None, **settings: object) -> dict[int, list[dict[str, Any]]]:
    bank = write_world(folder, voxels=VOXELS, copies=8)
    steps = steps_of(folder)
    done = concepts(steps, nearest(steps, bank), dict(settings), captioner)
    table = steps.run.read("captions", key=done.key)
    assert table.schema.equals(CAPTIONS)
    rows: dict[int, list[dict[str, Any]]] = {}
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


def test_the_voxel_chooses_among_a_clusters_beams(tmp_path: Path) -> None:
    plain, chosen = rows_of(tmp_path / "plain"), rows_of(tmp_path / "chosen", DistractedCaptioner())
    for voxel, wanted in zip(plain, VOXELS, strict=True):
        weight_D = 0.3 * blend(wanted)
        assert [row["caption"] for row in chosen[voxel]] == [row["caption"] for row in plain[voxel]]
        for row in chosen[voxel]:
            first, *others = row["candidates"]
            assert first == row["caption"] and others == ["a cloud.", "the cloud."], "equal drives by alphabet; nothing twice"
            assert row["candidate_scores"] == pytest.approx(
                [float(weight_D @ blend(text)) for text in row["candidates"]], abs=1e-6
            )
            assert row["logprob"] == pytest.approx(-0.4) and row["nouns"] == plain[voxel][row["rank"] - 1]["nouns"]


def test_the_captioner_chooses_where_that_is_wanted(tmp_path: Path) -> None:
    by_drive = rows_of(tmp_path, DistractedCaptioner())
    by_logprob = rows_of(tmp_path, DistractedCaptioner(), choose="logprob")
    assert list(by_logprob) == list(by_drive), "the choice is part of the step's fingerprint"
    for row in (row for rows in by_logprob.values() for row in rows):
        assert row["caption"] == "the cloud." and row["candidate_scores"] == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5])
        assert row["candidates"][:3] == ["the cloud.", "", "a cloud."]


def test_a_cluster_without_words_has_its_row(tmp_path: Path) -> None:
    class Speechless(WordCaptioner):
        def captions(self, embeddings_VD: torch.Tensor, keys: Sequence[str] | None = None) -> list[list[CaptionBeam]]:
            return [[CaptionBeam("", -1.0), CaptionBeam("", -2.0)] for _ in embeddings_VD]

    rows = [row for rows in rows_of(tmp_path, Speechless()).values() for row in rows]
    assert {(row["caption"], row["logprob"], tuple(row["candidates"])) for row in rows} == {("", -1.0, ("",))}


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
