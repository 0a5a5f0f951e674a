"""A region planted in two parts is divided in two; what cannot be divided is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from scuba_ray.analyses.clusters import Clusters
from scuba_ray.analyses.spoken import ALL
from scuba_ray.config import backbone_config
from scuba_ray.core.parts import adjusted_rand
from scuba_ray.core.ridge import fold_of_images, prepare_gram, ridge
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import make_backbone
from scuba_ray.phantom import seeds
from scuba_ray.phantom.concepts import load_vocabulary
from scuba_ray.phantom.scenes import load_drawings, render, sample_scenes
from scuba_ray.phantom.sessions import order_trials, scan
from scuba_ray.phantom.stimuli import concept_of_drawings, sample_stimuli
from scuba_ray.phantom.subject import VoxelTruth, content, signals
from tests.analyses.planted import caption_row, tables, voxel_row
from tests.study import TinyStudy

PARTS = ("hands", "people at sports")
"""The two halves of the planted body area, as the paper's: one concept each."""
EACH, STIMULI = 30, 900


@pytest.fixture(scope="module")
def two_parts() -> dict[str, Any]:
    """A phantom region of two concepts, simulated, scanned and fitted like any: weights, pictures and ceilings."""
    generator, drawings, vocabulary = seeds.generator(seeds.STIMULI, 5), load_drawings(), load_vocabulary()
    names = [concept.name for concept in vocabulary.concepts]
    concept_N = concept_of_drawings(drawings, vocabulary)
    scenes = sample_scenes(generator, sample_stimuli(generator, STIMULI, concept_N, len(names)))
    backbone = make_backbone(backbone_config("phantom:clip")).load("cpu")
    with torch.inference_mode():
        pictures = render(scenes, drawings).float() / 255
        raw_SD = torch.cat([backbone.embed_pictures(part) for part in pictures.split(300)]).float()
    X_SD = torch.nn.functional.normalize(raw_SD, dim=1)
    ceilings = [0.05 + 0.75 * voxel / EACH for voxel in range(EACH)]
    truths = [VoxelTruth("bodies", "single", (part,), (1.0,), None, ceiling) for part in PARTS for ceiling in ceilings]
    signal_SV = signals(truths, content(scenes, concept_N, len(names)), torch.zeros(STIMULI, 3), names)
    trials = order_trials(generator, STIMULI)
    ceiling_V = torch.tensor([truth.noise_ceiling for truth in truths])
    Y_TV = torch.cat(list(scan(generator, signal_SV, ceiling_V, trials)))
    Y_SV = torch.zeros(STIMULI, len(truths)).index_add_(0, trials.stimulus_T, Y_TV - Y_TV.mean(0)) / 3
    fit = ridge(prepare_gram(X_SD, fold_of_images(STIMULI, 5, 0)), X_SD, Y_SV, torch.logspace(-2, 5, 12))
    return {"weights_VD": fit.weights_DV.T.numpy(), "bias_V": fit.bias_V.numpy(), "pictures_KD": raw_SD.numpy(), "truths": truths}


def found_of(
    weights_VD: np.ndarray, pictures_KD: np.ndarray, rois: list[list[str] | None], bias_V: np.ndarray | None = None, **more: Any
) -> dict[str, pa.Table]:
    captions = [caption_row(voxel, more.get("captions", ["a dog."] * len(rois))[voxel]) for voxel in range(len(rois))]
    q = more.get("q", [0.001] * len(rois))
    voxels = [
        voxel_row(
            voxel, own, q=q[voxel], weight=weights_VD[voxel].tolist(), bias=None if bias_V is None else float(bias_V[voxel])
        )
        for voxel, own in enumerate(rois)
    ]
    near = {"image_id": [f"i{k:04d}" for k in range(len(pictures_KD))], "embedding": pictures_KD.tolist()}
    found = tables(captions, voxels)
    if bias_V is None:
        index = found["voxels"].column_names.index("bias")
        found["voxels"] = found["voxels"].set_column(index, "bias", pa.nulls(len(rois), pa.float32()))
    return {**found, "nearest_pictures": pa.table({"backbone": ["b"] * len(pictures_KD), **near})}


@pytest.mark.parametrize("k", [2, "auto"])
def test_a_region_planted_in_two_parts_is_separated(study: TinyStudy, two_parts: dict[str, Any], k: Any) -> None:
    truths = two_parts["truths"]
    said = ["a hand." if voxel < EACH else "a skier." for voxel in range(len(truths))]
    found = found_of(
        two_parts["weights_VD"], two_parts["pictures_KD"], [["bodies"]] * len(truths), two_parts["bias_V"], captions=said
    )
    rows = Clusters(study.config(clusters={"k": k})).run(found).to_pylist()
    label_of = {row["voxel_id"]: row["part"] for row in rows if row["level"] == "voxel"}
    sure = [voxel for voxel, truth in enumerate(truths) if truth.noise_ceiling >= 0.3]
    wanted = torch.tensor([PARTS.index(truths[voxel].concepts[0]) for voxel in sure])
    assert adjusted_rand(wanted, torch.tensor([label_of[voxel] for voxel in sure])) >= 0.8
    parts = [row for row in rows if row["level"] == "part"]
    assert len(parts) == 2 and parts[0]["stability"] > 0.8 and parts[0]["voxels"] >= parts[1]["voxels"]
    assert {row["nouns"][0] for row in parts} == {"hand", "skier"}
    assert all(row["predicted_own"] > row["predicted_other"] + 0.3 and len(row["image_ids"]) == 8 for row in parts)
    assert not set(parts[0]["image_ids"]) & set(parts[1]["image_ids"])


def cloud(count: int, seed: int = 0, dim: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_nearest_pictures_and_predictions_are_those_of_the_part(study: TinyStudy) -> None:
    weights_VD, pictures_KD = np.repeat(2 * np.eye(2, 8, dtype=np.float32), 6, axis=0), 3 * np.eye(4, 8, dtype=np.float32)
    found = found_of(weights_VD + 0.01 * cloud(12, dim=8), pictures_KD, [["roi"]] * 12, np.full(12, 0.5))
    parts = [
        row for row in Clusters(study.config(clusters={"k": 2, "pictures": 1})).run(found).to_pylist() if row["level"] == "part"
    ]
    assert {tuple(row["image_ids"]) for row in parts} == {("i0000",), ("i0001",)}
    for row in parts:
        assert row["predicted_own"] == pytest.approx(2.5, abs=0.05) and row["predicted_other"] == pytest.approx(0.5, abs=0.05)
        assert row["image_cos"][0] == pytest.approx(1, abs=0.01) and row["cosine"] > 0.99


def test_one_cloud_stays_in_one_part(study: TinyStudy) -> None:
    captions = ["a dog."] * 30 + ["a cat."] * 10
    found = found_of(cloud(40) + 2, cloud(20, seed=1), [["roi"]] * 40, captions=captions)
    (part,) = (row for row in Clusters(study.config()).run(found).to_pylist() if row["level"] == "part")
    assert part["parts"] == 1 and part["voxels"] == 40 and part["note"].startswith("one part: no division into 2 to 6 is stable")
    assert part["nouns"] == ["dog", "cat"] and part["predicted_other"] is None and len(part["image_ids"]) == 8


def test_few_voxels_and_none_are_told(study: TinyStudy) -> None:
    rois: list[list[str] | None] = [["one"], ["two"], ["two"], ["none"]]
    found = found_of(cloud(4), cloud(3), rois, q=[0.01, 0.01, 0.01, 0.9])
    by_roi: dict[str, list[dict[str, Any]]] = {}
    for row in Clusters(study.config(clusters={"k": 2, "pictures": 50})).run(found).to_pylist():
        if row["level"] == "part":
            by_roi.setdefault(row["roi"], []).append(row)
    assert by_roi["one"][0]["note"] == "voxels: 1, too few to divide into 2 parts" and by_roi["one"][0]["parts"] == 1
    assert [row["voxels"] for row in by_roi["two"]] == [1, 1] and by_roi["two"][0]["stability"] is None
    assert len(by_roi["two"][0]["image_ids"]) == 3, "there are no more pictures"
    assert by_roi["none"][0]["part"] is None and "no voxel of this region counts" in by_roi["none"][0]["note"]
    (row,) = Clusters(study.config()).run(found_of(cloud(2), cloud(3), [None, []])).to_pylist()
    assert row["roi"] == ALL and row["note"] == "this subject has no regions to divide"
    rows = Clusters(study.config()).run(found_of(cloud(2), cloud(3), [["faces"]] * 2, q=[0.5, 0.5])).to_pylist()
    assert ["no captioned voxel counts" in row["note"] for row in rows] == [True]


def test_regions_can_be_chosen(study: TinyStudy) -> None:
    found = found_of(cloud(6), cloud(3), [["one"], ["two"]] * 3)
    chosen = Clusters(study.config(clusters={"rois": ["two"], "k": 2})).run(found)
    assert set(chosen["roi"].to_pylist()) == {"two"}
    with pytest.raises(ConfigError, match=r"clusters\.rois has EBA; the regions are one, two"):
        Clusters(study.config(clusters={"rois": ["two", "EBA"]})).run(found)
