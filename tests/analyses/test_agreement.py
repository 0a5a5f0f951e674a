"""agreement: planted agreement is found, unrelated regions are not, and what cannot be compared says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import spearmanr

from scuba_ray.analyses.agreement import AGREEMENT, Agreement, compare, predict
from scuba_ray.analyses.agreement_measures import Sayings, noun_overlap, spearman, unit
from scuba_ray.errors import ConfigError
from scuba_ray.pipeline import run
from tests.study import STIMULI, TinyStudy, write_backbone, write_subject

ROIS = ("faces", "food")
VOXELS, DIM = 20, 16


def subject(seed: int, agrees: bool = True, regions: tuple[int, ...] = (0, 1)) -> Sayings:
    """Half the voxels in each region. Those of an agreeing subject say their region's word and point where it does."""
    rng = np.random.default_rng(seed)
    axes_2D = np.random.default_rng(0).normal(size=(2, DIM))
    region_V = np.arange(VOXELS) % 2
    topic_V = region_V if agrees else rng.integers(0, 2, VOXELS)
    member_RV = np.array([(region_V == region) & (region in regions) for region in (0, 1)])
    vectors_VD = (axes_2D[topic_V] + 0.3 * rng.normal(size=(VOXELS, DIM))).astype(np.float32)
    return Sayings(member_RV, np.arange(VOXELS), topic_V.astype(np.int64), unit(vectors_VD).astype(np.float32), vectors_VD)


def table(rows: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["roi"], row["measure"]): row for row in rows}


def test_measures_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(5)), np.array([0.5, 0.5, 0, 0, 0])
    assert noun_overlap(p, q) == pytest.approx(1 - jensenshannon(p, q, base=2) ** 2)
    assert noun_overlap(p, p) == pytest.approx(1)
    assert noun_overlap(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(0)
    assert np.isnan(noun_overlap(np.zeros(2), np.array([0, 1.0])))
    one, two = rng.integers(0, 5, (2, 30)).astype(float), rng.normal(size=(3, 30))
    for row in range(2):
        for column in range(3):
            assert spearman(one, two)[row, column] == pytest.approx(spearmanr(one[row], two[column])[0])
    assert np.isnan(spearman(np.ones((1, 30)), two)).all()


def test_agreeing_subjects_agree_beyond_chance_and_others_do_not() -> None:
    rows = table(compare(ROIS, 2, {"a": subject(1), "b": subject(2)}, backbone="clip", seed=0))
    for roi in ROIS:
        for measure in ("nouns", "embedding"):
            row = rows[roi, measure]
            assert row["value"] > 0.9 and row["gain"] == row["value"] - row["other_rois"] and row["p"] < 0.02, row
            assert abs(row["shuffled"]) < 0.5 < row["gain"]
    assert rows["faces", "nouns"]["value"] == pytest.approx(1) and rows["faces", "nouns"]["other_rois"] == pytest.approx(0)
    p = [
        table(compare(ROIS, 2, {"a": subject(1), "b": subject(seed, agrees=False)}, backbone="c", seed=0, permutations=40))[
            "faces", "nouns"
        ]["p"]
        for seed in range(2, 32)
    ]
    assert 0.3 < np.mean(p) < 0.7, "p of subjects that do not agree is spread over [0, 1]"


def test_others_captions_predict_a_subject_that_answers_to_them() -> None:
    rng = np.random.default_rng(4)
    axes_2D, X_SD = np.random.default_rng(0).normal(size=(2, DIM)), unit(rng.normal(size=(60, DIM)))
    response_RS = axes_2D @ X_SD.T + 0.1 * rng.normal(size=(2, 60))
    said = {"a": subject(1), "b": subject(2), "c": subject(3)}
    rows = list(predict(ROIS, said, {"a": (X_SD, response_RS)}, backbone="clip", seed=0))
    mine = table(row for row in rows if row["subject"] == "a")
    for roi in ROIS:
        row = mine[roi, "prediction"]
        assert row["value"] > 0.8 > row["other_rois"] and row["p"] < 0.05 and row["images"] == 60, row
        assert row["other"] is None and row["voxels"] == 10 and row["other_voxels"] == 20
    theirs = [row for row in rows if row["subject"] != "a"]
    assert all("value" not in row and "no embedded test images" in row["note"] for row in theirs)


def test_a_region_of_one_subject_only_is_said() -> None:
    rows = table(compare(ROIS, 2, {"a": subject(1), "b": subject(2, regions=(0,))}, backbone="clip", seed=0))
    assert rows["food", "nouns"]["note"] == "no captioned voxel of this region in b" and "value" not in rows["food", "nouns"]
    assert rows["faces", "nouns"]["value"] > 0.9
    X_SD = unit(np.random.default_rng(4).normal(size=(30, DIM)))
    measured = {"a": (X_SD, X_SD[:, :2].T.copy())}
    said = {"a": subject(1), "b": subject(2, regions=(0,))}
    rows = {(row["subject"], row["roi"]): row for row in predict(ROIS, said, measured, backbone="clip", seed=0)}
    assert rows["a", "food"]["note"] == "no captioned voxel of this region in any other subject"
    assert rows["a", "faces"]["value"] is not None


def test_one_subject_is_a_config_error(study: TinyStudy) -> None:
    with pytest.raises(ConfigError, match="subj01 is the only one"):
        Agreement(study.config())


def test_subjects_with_different_test_sets_and_backbones_of_different_dim(own_study: TinyStudy) -> None:
    """End to end: each subject is judged on its own images, and tables of two backbones are read together."""
    second = write_subject(own_study.folder / "second", seed=3)
    stimuli = pq.read_table(second / "stimuli.parquet")
    split = pa.array(["train"] * (STIMULI - 20) + ["test"] * 20)
    pq.write_table(stimuli.set_column(2, "split", split), second / "stimuli.parquet")
    voxels = pq.read_table(second / "voxels.parquet")
    rois = [["faces"], ["words"], []] * 4
    pq.write_table(voxels.set_column(voxels.column_names.index("rois"), "rois", pa.array(rois)), second / "voxels.parquet")
    np.save(own_study.folder / "w.npy", np.random.default_rng(0).normal(size=(4, 24)).astype(np.float32))
    pq.write_table(pa.table({"voxel_id": range(4), "rois": [["faces"]] * 4}), own_study.folder / "v.parquet")
    wider = write_backbone(own_study.folder / "wider", seed=2, embed_dim=32)
    backbones = [
        {"name": "tiny", "model": f"local-dir:{own_study.folder / 'backbone'}"},
        {"name": "wider", "model": f"local-dir:{wider}"},
    ]
    weights = {"path": str(own_study.folder / "w.npy"), "voxels": str(own_study.folder / "v.parquet"), "backbone": "tiny"}
    subjects = [
        {"name": "subj01", "path": str(own_study.folder / "subject")},
        {"name": "subj02", "path": str(second)},
        {"name": "theirs", "weights": weights},
    ]
    config = own_study.config(subjects=subjects, backbones=backbones, analyses=["agreement", "backbones"])
    folder = run(config)
    table = folder.read("analyses/agreement")
    assert table.schema.equals(AGREEMENT)
    rows = table.to_pylist()
    images = {row["subject"]: row["images"] for row in rows if row["measure"] == "prediction"}
    assert images == {"subj01": 15, "subj02": 20, "theirs": 0}
    found = {(row["subject"], row["other"], row["roi"], row["measure"]): row for row in rows}
    assert "subj02" in found["subj01", "subj02", "food", "nouns"]["note"]
    assert found["subj01", "subj02", "faces", "embedding"]["value"] is not None
    assert -1 <= found["subj02", None, "faces", "prediction"]["value"] <= 1
    assert all((row["p"] is None) == (row["note"] is not None) for row in rows)
    compared = folder.read("analyses/backbones").to_pylist()
    assert len({(row["subject"], row["backbone"]) for row in compared}) == 4
