"""Whole runs with the baseline and banded fits on the tiny study, whose voxels answer to the pictures' colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scuba_ray.core.ridge import fold_of_images, prepare_gram, ridge
from scuba_ray.core.statistics import r2
from scuba_ray.datasets import make_dataset
from scuba_ray.errors import ConfigError
from scuba_ray.pipeline import run
from scuba_ray.report.show import voxel_details
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import BANDS
from scuba_ray.tables.store import RunFolder
from tests.models.tiny import WORDS
from tests.preparing import written_out
from tests.study import BAD, CONSTANT, OK, STIMULI, TEST, TinyStudy, write_pictures

SCORES = ("r2_joint", "r2_first", "r2_second", "unique_first", "unique_second", "shared")


def with_bands(study: TinyStudy, *bands: str, **changes: Any) -> dict[str, Any]:
    return {**study.settings()["fit"], "low_level": True, "bands": list(bands), **changes}


def captioned(study: TinyStudy, silent: int = 0) -> None:
    """Give the stimuli captions, but for the last few."""
    path = study.folder / "subject" / "stimuli.parquet"
    texts = [WORDS[row % len(WORDS)] for row in range(STIMULI - silent)] + [None] * silent
    pq.write_table(pq.read_table(path).append_column("caption", pa.array(texts, pa.string())), path)


@pytest.fixture(scope="module")
def finished(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(study.config(out=str(tmp_path_factory.mktemp("bands") / "run"), fit=with_bands(study, "low-level")))


def test_the_baseline_is_fitted_like_a_backbone_and_never_captioned(finished: RunFolder) -> None:
    assert set(finished.keys("voxels")) == {"subj01/tiny", "subj01/low-level"}
    voxels = finished.read("voxels", key="subj01/low-level").to_pylist()
    assert len(voxels) == OK + 2 and all(row["q"] is not None and len(row["weight"]) == 19 for row in voxels[:OK])
    for table in ("bank", "projections", "captions"):
        assert set(finished.read(table)["backbone"].to_pylist()) == {"tiny"}


def test_bands_has_its_schema_sums_and_nulls(finished: RunFolder) -> None:
    table = finished.read("bands")
    assert table.schema.equals(BANDS) and table.num_rows == OK + 2
    rows = {row["voxel_id"] - 100: row for row in table.to_pylist()}
    for voxel in range(OK):
        row = rows[voxel]
        assert row["unique_first"] + row["unique_second"] + row["shared"] == pytest.approx(row["r2_joint"], abs=1e-5)
        assert row["unique_first"] == pytest.approx(row["r2_joint"] - row["r2_second"], abs=1e-5)
        assert 0 <= row["weight_first"] <= 1 and row["explained_by_low_level"] is not None
    for voxel in (CONSTANT, BAD):
        assert all(rows[voxel][name] is None for name in (*SCORES, "weight_first", "alpha", "explained_by_low_level"))


def features(run: RunFolder, space: str) -> torch.Tensor:
    """What a fit reads of a space, test images first, of total variance 1 over the training images."""
    raw_SD = matrix(run.read("embeddings", key=f"subj01/{space}")["embedding"]).astype(float)
    training_SD = raw_SD[TEST:]
    unit_SD = raw_SD / np.linalg.norm(raw_SD, axis=1, keepdims=True)
    scaled_SD = unit_SD if space == "tiny" else (raw_SD - training_SD.mean(0)) / training_SD.std(0)
    return torch.tensor(scaled_SD / scaled_SD[TEST:].var(0).sum() ** 0.5)


def test_each_set_alone_is_a_ridge_of_its_own(finished: RunFolder, study: TinyStudy) -> None:
    Y_SV = torch.tensor(written_out(make_dataset(study.config().subjects[0]))[:, :OK]).float()
    for space, column in (("tiny", "r2_first"), ("low-level", "r2_second")):
        X_SD = features(finished, space)
        gram = prepare_gram(X_SD[TEST:], fold_of_images(STIMULI - TEST, 3, 0))
        fit = ridge(gram, X_SD[TEST:], Y_SV[TEST:], torch.logspace(-2, 5, 5, dtype=torch.float64))
        expected = r2(Y_SV[:TEST], X_SD[:TEST].float() @ fit.weights_DV + fit.bias_V)
        np.testing.assert_allclose(finished.read("bands")[column].to_pylist()[:OK], expected, atol=2e-3)


def test_test_images_never_reach_the_banded_weights(finished: RunFolder, own_study: TinyStudy) -> None:
    subject = own_study.folder / "subject"
    write_pictures(subject / "images", TEST, 99, "s")
    trials = pq.read_table(subject / "trials.parquet")
    tested = np.array([int(name[1:]) < TEST for name in trials["stimulus_id"].to_pylist()])
    responses = np.load(subject / "responses.npy")
    responses[tested, :OK] = np.random.default_rng(5).normal(1e3, 1e3, (int(tested.sum()), OK))
    np.save(subject / "responses.npy", responses)
    poisoned = run(own_study.config(fit=with_bands(own_study, "low-level")))
    for column in ("weight_first", "alpha"):
        assert finished.read("bands")[column].equals(poisoned.read("bands")[column])
    one, two = (folder.read("voxels", key="subj01/low-level")["weight"] for folder in (finished, poisoned))
    assert one.equals(two)
    assert not finished.read("bands")["r2_joint"].equals(poisoned.read("bands")["r2_joint"]), "the poison was there"


def test_a_second_run_computes_nothing_and_new_bands_compute_only_themselves(
    finished: RunFolder, study: TinyStudy, tmp_path: Path
) -> None:
    events: list[Any] = []
    run(study.config(out=finished.location, fit=with_bands(study, "low-level")), listen=events.append)
    assert events == []
    plain = run(study.config(out=str(tmp_path / "run"), fit=with_bands(study, low_level=False)))
    run(study.config(out=plain.location, fit=with_bands(study, "low-level")), listen=events.append)
    assert {(event.step, event.key) for event in events} == {
        ("encode", "subj01/low-level"),
        ("fit", "subj01/low-level"),
        ("significance", "subj01/low-level"),
        ("bands", "subj01/tiny/low-level"),
    }


def test_captions_as_the_second_set(own_study: TinyStudy) -> None:
    captioned(own_study, silent=2)
    folder = run(own_study.config(fit=with_bands(own_study, "caption")))
    assert folder.read("embeddings", key="subj01/tiny+caption").num_rows == STIMULI - 2
    reasons = [(row["key"], row["reason"]) for row in folder.quarantine().to_pylist()]
    assert reasons == [(f"stimulus_id=s{row:04d}", "it has no caption") for row in (STIMULI - 2, STIMULI - 1)]
    table = folder.read("bands")
    assert set(table["bands"].to_pylist()) == {"caption"} and table["explained_by_low_level"].null_count == OK + 2
    # five captions, dealt in turn, say nothing of the colours
    assert np.median(table["r2_first"].to_pylist()[:OK]) > 0.05 > np.median(table["r2_second"].to_pylist()[:OK])


def test_missing_captions_are_refused_before_anything_starts(study: TinyStudy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the stimuli of subj01 have none: add a column caption to stimuli.parquet"):
        run(study.config(out=str(tmp_path / "never"), fit=with_bands(study, "caption")))
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fit": {"low_level": False}}, "needs low_level: true"),
        ({"fit": {"bands": ["caption", "caption"]}}, "bands must be different"),
        ({"fit": {"bands": ["edges"]}}, "fit.bands"),
        ({"backbones": ["pixels:low-level"]}, "low-level is the baseline"),
    ],
)
def test_settings_that_cannot_work(study: TinyStudy, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study.config(**changes)


def test_show_says_what_the_bands_say_of_a_voxel(finished: RunFolder) -> None:
    items = dict(zip(*(voxel_details(finished, 100)[name].to_pylist() for name in ("item", "value")), strict=True))
    row = finished.read("bands").to_pylist()[0]
    assert items["explained_by_low_level"] == str(row["explained_by_low_level"])
    assert items["unique_first, embedding x low-level"] == f"{row['unique_first']:.4g}"
