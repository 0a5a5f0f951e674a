"""Judges that did not make the pictures: pictures of known content stand in for made ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.config import ProbeConfig
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.phantom.concepts import PAPER_ROIS
from scuba_ray.phantom.probe import phantom_prompts, prompts_of
from scuba_ray.stages.judge_images import targets_of
from scuba_ray.stages.judging import category_of
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import NATURAL_TOP_1_PERCENT, NATURAL_TOP_100
from tests.stages.judged import KEY, SAMPLES, World, embedded, judge_stage, judged, make_world, pictures_of, plan, region_pictures


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield make_world(tmp_path_factory.mktemp("world") / "phantom")


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[bytes]]:
    return region_pictures()


def regions(world: World) -> dict[str, tuple[str, list[int]]]:
    return {roi: ("roi", world.members(roi)) for roi in PAPER_ROIS}


def made(table: pa.Table) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["method"] == "brainscuba"]


def test_pictures_of_what_a_region_answers_to_drive_it_and_are_recognised(
    world: World, pictures: dict[str, list[bytes]], tmp_path: Path
) -> None:
    run = RunFolder(str(tmp_path))
    world.write(run)
    plan(run, regions(world), pictures)
    rows = made(judged(judge_stage(world, run)))
    assert len(rows) == 5 * SAMPLES and run.quarantine().num_rows == 0
    for roi in PAPER_ROIS:
        mine = [row for row in rows if row["target"] == roi]
        for suffix in ("", "_independent"):
            assert np.mean([row[f"predicted{suffix}"] for row in mine]) > mine[0][f"natural_predicted{suffix}"] + 0.1
            assert np.mean([row[f"percentile{suffix}"] for row in mine]) > 65
        assert sorted(row["rank"] for row in mine) == list(range(SAMPLES))
        assert max(mine, key=lambda row: row["predicted"])["rank"] == 0
    for column in ("category", "category_own"):
        assert np.mean([row[column] == row["target_category"] == row["target"] for row in rows]) > 0.9
    assert {(row["prompt"], row["noun"], row["seed"], row["batch"], row["truncated"]) for row in rows} == {
        ("a photo", "photo", 7, 4, False)
    }
    assert [row["png"] for row in rows if row["target"] == "food"] == pictures["food"]


def test_pictures_of_other_regions_fall_to_chance(world: World, pictures: dict[str, list[bytes]], tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    world.write(run)
    everything = np.random.default_rng(0).permutation([png for of in pictures.values() for png in of]).tolist()
    plan(run, regions(world), {roi: everything[n * SAMPLES : (n + 1) * SAMPLES] for n, roi in enumerate(PAPER_ROIS)})
    rows = made(judged(judge_stage(world, run)))
    assert np.mean([row["category"] == row["target_category"] for row in rows]) < 0.5
    assert abs(np.mean([row["percentile_independent"] for row in rows]) - 50) < 15


def test_numbers_are_those_of_the_formula(world: World, pictures: dict[str, list[bytes]], tmp_path: Path) -> None:
    """Voxels without weights take no part: in both models those of the captioned one, in the judge's also its own."""
    run, members = RunFolder(str(tmp_path)), world.members("faces")
    without = {"clip": members[:2], "judge": members[1:4]}
    world.write(run, without=without)
    plan(
        run,
        {"faces": ("roi", members), "voxel 1": ("voxel", members[5:6])},
        {"faces": pictures["faces"], "voxel 1": pictures["food"]},
    )
    table = judged(judge_stage(world, run))
    both = [one for one in members if one not in members[:4]]
    for target, shown, voxels in (("faces", "faces", (members[2:], both)), ("voxel 1", "food", (members[5:6], members[5:6]))):
        rows = [row for row in made(table) if row["target"] == target]
        for name, suffix, mine in (("clip", "", voxels[0]), ("judge", "_independent", voxels[1])):
            # embeddings are kept in half precision, as those of stimuli are
            raw_ND = embedded(name, pictures[shown]).astype(np.float16).astype(np.float64)
            member_V = np.isin(world.voxel_ids, mine)
            unit_ND = raw_ND / np.linalg.norm(raw_ND, axis=1, keepdims=True)
            wanted_N = (unit_ND @ world.weight_VD[name][member_V].T.astype(np.float64) + world.bias_V[name][member_V]).mean(1)
            got_N = np.array([row[f"predicted{suffix}"] for row in rows])
            np.testing.assert_allclose(got_N, wanted_N, atol=2e-3)
            natural_S = world.natural(name, mine)
            assert rows[0][f"natural_predicted{suffix}"] == pytest.approx(natural_S.mean(), abs=1e-5)
            for row, value in zip(rows, got_N, strict=True):
                percentile = 100 * (np.sum(natural_S < value) + 0.5 * np.sum(natural_S == value)) / len(natural_S)
                assert row[f"percentile{suffix}"] == pytest.approx(percentile, abs=0.26), "half of one of 400 stimuli"


def test_natural_references_are_ranked_by_measured_responses(
    world: World, pictures: dict[str, list[bytes]], tmp_path: Path
) -> None:
    run = RunFolder(str(tmp_path))
    world.write(run)
    plan(run, regions(world), pictures)
    rows = [row for row in judged(judge_stage(world, run)).to_pylist() if row["target"] == "places"]
    members = np.isin(world.voxel_ids, world.members("places"))
    measured_S = world.response_VS[members].astype(np.float64).mean(0)
    order_S = np.argsort(-measured_S)
    natural_S = world.natural("judge", world.members("places"))
    for method, count in ((NATURAL_TOP_100, 100), (NATURAL_TOP_1_PERCENT, math.ceil(len(measured_S) / 100))):
        mine = [row for row in rows if row["method"] == method]
        assert [row["sample"] for row in mine] == list(range(count))
        assert [row["stimulus_id"] for row in mine] == [world.stimulus_ids[row] for row in order_S[:count]]
        np.testing.assert_allclose([row["predicted_independent"] for row in mine], natural_S[order_S[:count]], atol=1e-5)
        assert {(row["png"], row["prompt"], row["seconds"], row["kind"]) for row in mine} == {(None, None, None, "roi")}
        assert np.mean([row["category"] == "places" for row in mine]) > 0.3, "chance is .2; many scenes show several things"
        assert mine[0]["percentile_independent"] == pytest.approx(
            100 * (np.sum(natural_S < natural_S[order_S[0]]) + 0.5) / len(natural_S), abs=1e-4
        )


def test_each_network_has_its_own_columns(world: World, tmp_path: Path) -> None:
    """Pictures of no category, on which the networks differ: each answers by its own prompts, best and mean."""
    run, shown = RunFolder(str(tmp_path)), pictures_of("objects", 24, 5)
    world.write(run)
    plan(run, {"objects": ("roi", world.members("objects"))}, {"objects": shown})
    rows = made(judged(judge_stage(world, run)))
    answers = {}
    for name, column in (("clip", "category_own"), ("judge", "category")):
        network = OpenClipBackbone(name, f"phantom:{name}").load("cpu")
        unit_ND = embedded(name, shown) / np.linalg.norm(embedded(name, shown), axis=1, keepdims=True)
        texts = {roi: network.embed_texts(prompts).numpy() for roi, prompts in phantom_prompts().items()}
        cosine = {roi: unit_ND @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T for roi, x in texts.items()}
        for suffix, merge in (("", np.max), ("_mean", np.mean)):
            best_N = np.argmax([merge(cosine[roi], axis=1) for roi in PAPER_ROIS], axis=0)
            answers[column + suffix] = [PAPER_ROIS[index] for index in best_N]
            assert np.mean([row[column + suffix] == PAPER_ROIS[i] for row, i in zip(rows, best_N, strict=True)]) > 0.95
    assert np.mean(np.array(answers["category"]) == np.array(answers["category_own"])) < 0.9
    assert {row["target_category"] for row in rows} == {None}


def test_without_a_judge_its_columns_are_null(world: World, pictures: dict[str, list[bytes]], tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    world.write(run)
    plan(run, regions(world), pictures)
    table = judged(judge_stage(world, run, judge=False))
    for name in ("predicted_independent", "percentile_independent", "natural_predicted_independent", "category", "category_mean"):
        assert table[name].null_count == len(table), name
    for name in ("predicted", "percentile", "natural_predicted", "category_own", "category_own_mean", "rank"):
        assert table[name].null_count == 0, name


def test_weights_fitted_elsewhere_have_no_natural_pictures(
    world: World, pictures: dict[str, list[bytes]], tmp_path: Path
) -> None:
    run = RunFolder(str(tmp_path))
    world.write(run)
    plan(run, regions(world), pictures)
    for table, key in (
        ("embeddings", KEY),
        ("embeddings", "phantom/judge"),
        ("voxels", "phantom/judge"),
        ("responses", "phantom"),
    ):
        run.remove(table, key)
    table = judged(judge_stage(world, run, weights=True))
    assert set(table["method"].to_pylist()) == {"brainscuba"} and table["predicted"].null_count == 0
    for name in ("percentile", "natural_predicted", "predicted_independent", "percentile_independent"):
        assert table[name].null_count == len(table), name
    assert np.mean([row["category"] == row["target"] for row in table.to_pylist()]) > 0.9, (
        "a judge needs no encoding model to look"
    )


def test_a_damaged_picture_is_quarantined_and_the_others_are_judged(
    world: World, pictures: dict[str, list[bytes]], tmp_path: Path
) -> None:
    run = RunFolder(str(tmp_path))
    world.write(run)
    spoilt = {**pictures, "food": [pictures["food"][0][:200], *pictures["food"][1:]]}
    plan(run, regions(world), spoilt)
    table = judged(judge_stage(world, run))
    assert [row["sample"] for row in made(table) if row["target"] == "food"] == list(range(1, SAMPLES))
    (bad,) = run.quarantine().to_pylist()
    assert bad["key"] == "subject=phantom, backbone=clip, target=food, method=brainscuba, sample=0"
    assert "not a readable picture" in bad["reason"]


def test_a_target_whose_voxels_have_no_weights_is_quarantined(
    world: World, pictures: dict[str, list[bytes]], tmp_path: Path
) -> None:
    run, members = RunFolder(str(tmp_path)), world.members("food")
    world.write(run, without={"clip": members})
    plan(run, regions(world), pictures)
    table = judged(judge_stage(world, run))
    assert "food" not in table["target"].to_pylist()
    (bad,) = run.quarantine().to_pylist()
    assert bad["key"].endswith("target=food") and f"none of its {len(members)} voxels" in bad["reason"]


def test_chunks_and_stimuli_without_embeddings(world: World, pictures: dict[str, list[bytes]], tmp_path: Path) -> None:
    tables = []
    for chunk in (1, 5):
        run = RunFolder(str(tmp_path / str(chunk)))
        world.write(run)
        plan(run, regions(world), pictures)
        tables.append(judged(judge_stage(world, run), chunk=chunk))
    assert tables[0].equals(tables[1])
    few = World(**{**vars(world), "stimulus_ids": world.stimulus_ids[:60], "split": world.split[:60]})
    few.embedding_SD = {name: half_SD[:60] for name, half_SD in world.embedding_SD.items()}
    run = RunFolder(str(tmp_path / "few"))
    few.write(run)
    plan(run, regions(world), pictures)
    counts = [row["method"] for row in judged(judge_stage(world, run)).to_pylist() if row["target"] == "faces"]
    assert (counts.count(NATURAL_TOP_100), counts.count(NATURAL_TOP_1_PERCENT)) == (60, 1)


def test_targets_keep_their_order(world: World, tmp_path: Path) -> None:
    run, png = RunFolder(str(tmp_path)), pictures_of("food", 2, 0)
    plan(run, {name: ("roi", [1, 2]) for name in ("zebra", "apple", "mango")}, dict.fromkeys(("zebra", "apple", "mango"), png))
    assert targets_of(run, KEY).to_pydict() == {
        "target": ["zebra", "apple", "mango"],
        "kind": ["roi"] * 3,
        "voxels": [[1, 2]] * 3,
    }


def test_which_category_a_target_belongs_to() -> None:
    probe = ProbeConfig(category_of={"FFA-1": "faces", "PPA": "places"})
    assert list(prompts_of(probe)) == ["faces", "bodies", "places", "food", "words"]
    assert [category_of(probe, one) for one in ("FFA-1", "PPA", "food", "V1")] == ["faces", "places", "food", None]
    assert category_of(probe, "voxel 3", ["V1", "PPA", "FFA-1"]) == "places", "the first region that belongs anywhere"
    assert category_of(probe, "voxel 3", []) is None
    own = ProbeConfig(prompts={"cats": ("a cat",), "dogs": ("a dog", "a puppy")})
    assert category_of(own, "dogs") == "dogs" and category_of(own, "faces") is None


def test_prompts_are_part_of_the_fingerprint(world: World, tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    plan(run, regions(world), {roi: [] for roi in PAPER_ROIS} | {"faces": pictures_of("food", 1, 0)})
    prints = [
        judge_stage(world, run, **probe).fingerprint()
        for probe in ({}, {"prompts": "paper"}, {"category_of": {"faces": "food"}}, {"judge": False})
    ]
    assert all(one != other for index, one in enumerate(prints) for other in prints[:index])
