"""fit's own promises, beside what whole runs show: any cut gives the same voxels, what is missing is null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import Ridge

from scuba_ray.config import PrepareConfig
from scuba_ray.errors import DataError, WorkerError
from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages.encode import EncodeStimuli
from scuba_ray.stages.fit import Fit
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.worker import StageTask
from tests.preparing import prepare_responses, written_out
from tests.study import BAD, CONSTANT, OK, STIMULI, TEST, TinyStudy

KEY = "subj01/tiny"


def encoded(study: TinyStudy, out: Path) -> RunFolder:
    """A run folder with the stimuli's embeddings and the prepared responses."""
    config = study.config()
    run = RunFolder(str(out))
    backbone = make_backbone(config.backbones[0])
    stage = EncodeStimuli(subject=config.subjects[0], backbone=backbone, settings=config.encode, resources=Resources())
    unit = run.begin(step="encode", table="embeddings", key=KEY, fingerprint="f" * 64)
    chunk = Chunk(0, 0, STIMULI)
    unit.write(chunk, stage(stage.read(chunk)).table)
    run.finish(unit, [chunk])
    prepare_responses(run, config.subjects[0])
    return run


def fit_stage(study: TinyStudy, run: RunFolder, **fit: Any) -> Fit:
    config = study.config(fit={"permutations": 50, "folds": 3, "alphas": 5, **fit})
    return Fit(subject=config.subjects[0], backbone="tiny", dim=24, run=run, settings=config.fit, seed=0, resources=Resources())


@pytest.fixture(scope="module")
def run(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return encoded(study, tmp_path_factory.mktemp("encoded"))


def fits(stage: Fit, start: int = 0, stop: int = OK + 2) -> pa.Table:
    stage.setup()
    return stage(stage.read(Chunk(0, start, stop))).table


def test_weights_are_ridge_on_unit_embeddings_of_the_training_images(study: TinyStudy, run: RunFolder) -> None:
    stage = fit_stage(study, run)
    table = fits(stage)
    raw_SD = matrix(run.read("embeddings")["embedding"]).astype(float)
    unit_SD = raw_SD / np.linalg.norm(raw_SD, axis=1, keepdims=True)
    Y_SV = written_out(stage._dataset)
    for voxel, row in enumerate(table.to_pylist()[:OK]):
        reference = Ridge(alpha=row["alpha"]).fit(unit_SD[TEST:], Y_SV[TEST:, voxel])
        np.testing.assert_allclose(row["weight"], reference.coef_, rtol=2e-3, atol=2e-4)
        assert row["bias"] == pytest.approx(reference.intercept_, rel=2e-3, abs=2e-4)
        assert row["r2"] == pytest.approx(reference.score(unit_SD[:TEST], Y_SV[:TEST, voxel]), abs=1e-3)


def test_a_part_of_the_responses_that_cannot_be_read_ends_the_step_and_costs_no_voxel(study: TinyStudy, tmp_path: Path) -> None:
    run = encoded(study, tmp_path)
    prepare_responses(run, study.config().subjects[0], PrepareConfig(chunk=5))
    *_, last = sorted(tmp_path.glob("responses/*.parquet"))
    last.write_bytes(last.read_bytes()[:-100])
    unit = run.begin(step="fit", table="fits", key=KEY, fingerprint="f" * 64)
    task = StageTask(fit_stage(study, run), unit)
    task.setup()
    with pytest.raises(WorkerError, match=f"{last.name} cannot be read"):
        task(Chunk(0, 0, OK + 2))
    assert run.quarantine().num_rows == 0


def test_rows_that_are_not_neighbours_are_fitted_too(study: TinyStudy, run: RunFolder) -> None:
    """After a failing row was taken out, the rest of a chunk comes back with a gap in it."""
    stage = fit_stage(study, run)
    whole = fits(stage)
    picked = pa.array([1, 4, 9, CONSTANT])
    table = stage(stage.read(Chunk(0, 0, OK + 2)).take(picked)).table
    assert table["voxel_id"].to_pylist() == whole["voxel_id"].take(picked).to_pylist()
    assert table["status"].to_pylist() == whole["status"].take(picked).to_pylist()
    for one, two in zip(table["weight"].to_pylist(), whole["weight"].take(picked).to_pylist(), strict=True):
        assert (one is None and two is None) or np.allclose(one, two, rtol=1e-5)


def test_sgd_has_no_alpha_and_finds_what_ridge_finds(study: TinyStudy, run: RunFolder) -> None:
    ridge = fits(fit_stage(study, run))
    table = fits(fit_stage(study, run, method="sgd", epochs=60, learning_rate=0.05, jitter=False))
    assert table["alpha"].null_count == table["alpha_at_edge"].null_count == OK + 2
    r = [(one, two) for one, two in zip(ridge["r"].to_pylist(), table["r"].to_pylist(), strict=True) if one is not None]
    assert np.corrcoef(np.array(r).T)[0, 1] > 0.8


def test_without_permutations_there_is_no_p(study: TinyStudy, run: RunFolder) -> None:
    table = fits(fit_stage(study, run, permutations=0))
    assert table["p"].null_count == OK + 2 and table["r"].null_count == 2


def test_without_test_images_there_are_weights_and_no_scores(own_study: TinyStudy, tmp_path: Path) -> None:
    path = own_study.folder / "subject" / "stimuli.parquet"
    stimuli = pq.read_table(path)
    pq.write_table(stimuli.set_column(2, "split", pa.array(["train"] * STIMULI)), path)
    table = fits(fit_stage(own_study, encoded(own_study, tmp_path / "run")))
    assert table["weight"].null_count == 2
    assert all(table[score].null_count == OK + 2 for score in ("r2", "r", "p", "r2_normalised"))


def test_too_few_training_images_say_so(own_study: TinyStudy, run: RunFolder) -> None:
    with pytest.raises(DataError, match=r"45 training images .* wants 46 or more"):
        fit_stage(own_study, run, folds=23).setup()


def test_fingerprint_knows_the_settings_of_its_method_only(study: TinyStudy, run: RunFolder) -> None:
    plain = fit_stage(study, run).fingerprint()
    assert fit_stage(study, run, chunk=3, epochs=7, jitter=False).fingerprint() == plain
    assert fit_stage(study, run, alphas=6).fingerprint() != plain
    sgd = fit_stage(study, run, method="sgd").fingerprint()
    assert fit_stage(study, run, method="sgd", epochs=7).fingerprint() != sgd
    assert fit_stage(study, run, method="sgd", jitter=False).fingerprint() != sgd


def test_unusable_voxels_leave_the_others_alone(study: TinyStudy, run: RunFolder) -> None:
    stage = fit_stage(study, run)
    with_them, without = fits(stage), fits(stage, 0, OK)
    assert with_them["status"].to_pylist()[CONSTANT:] == ["constant", "bad"] and BAD == CONSTANT + 1
    np.testing.assert_allclose(matrix(with_them["weight"].slice(0, OK)), matrix(without["weight"]), rtol=1e-5)
