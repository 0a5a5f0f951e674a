"""Feature spaces as a fit reads them: what is scaled by what, and which images two spaces share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from scuba_ray.datasets import make_dataset
from scuba_ray.protocols import Chunk, SubjectDataset
from scuba_ray.stages.features import FeatureSpace, TwoSpaces
from scuba_ray.tables.columns import vectors
from scuba_ray.tables.schemas import embeddings_schema
from scuba_ray.tables.store import RunFolder
from tests.study import STIMULI, TEST, TinyStudy

DIM = 3


@pytest.fixture(scope="module")
def dataset(study: TinyStudy) -> SubjectDataset:
    made: SubjectDataset = make_dataset(study.config().subjects[0])
    return made


def written(out: Path, raw: dict[str, np.ndarray], missing: dict[str, set[int]]) -> RunFolder:
    run = RunFolder(str(out))
    for name, raw_ND in raw.items():
        rows = [row for row in range(STIMULI) if row not in missing.get(name, set())]
        columns = {
            "subject": ["s"] * len(rows),
            "backbone": [name] * len(rows),
            "stimulus_id": [f"s{row:04d}" for row in rows],
            "embedding": vectors(raw_ND[rows].astype(np.float16)),
            "norm": np.ones(len(rows), np.float32),
            "split": ["test" if row < TEST else "train" for row in rows],
        }
        unit = run.begin(step="encode", table="embeddings", key=f"s/{name}", fingerprint=name[0] * 64)
        chunk = Chunk(0, 0, STIMULI)
        unit.write(chunk, pa.table(columns, schema=embeddings_schema(DIM)))
        run.finish(unit, [chunk])
    return run


def raw(seed: int) -> np.ndarray:
    """Features of different units; the last one is constant."""
    values = np.random.default_rng(seed).normal([5, -200, 0.1], [1, 50, 0], (STIMULI, DIM))
    return values.astype(np.float16).astype(np.float32)


def test_standard_features_have_the_training_images_mean_and_deviation(tmp_path: Path, dataset: SubjectDataset) -> None:
    values = raw(0)
    values[:TEST] += [100, 100, 0]
    space = FeatureSpace(written(tmp_path, {"a": values}, {}), "s/a", "standard")
    values = values.astype(np.float16).astype(np.float64)
    mean, deviation = values[TEST:, :2].mean(0), values[TEST:, :2].std(0)
    training, test = space.training(dataset), space.test(dataset)
    assert training.rows_S.tolist() == list(range(TEST, STIMULI)) and test.rows_S.tolist() == list(range(TEST))
    for images, rows in ((training, values[TEST:]), (test, values[:TEST])):
        np.testing.assert_allclose(images.X_SD[:, :2], (rows[:, :2] - mean) / deviation, rtol=1e-4, atol=1e-5)
        assert not images.X_SD[:, 2].any(), "a feature that does not vary is 0"


def test_unit_features_have_length_one(tmp_path: Path, dataset: SubjectDataset) -> None:
    space = FeatureSpace(written(tmp_path, {"a": raw(0)}, {}), "s/a", "unit")
    for images in (space.training(dataset), space.test(dataset)):
        torch.testing.assert_close(images.X_SD.norm(dim=1), torch.ones(len(images.rows_S)))


def test_two_spaces_share_the_images_that_have_features_in_both(tmp_path: Path, dataset: SubjectDataset) -> None:
    run = written(tmp_path, {"a": raw(0), "b": raw(1)}, {"a": {1, 30}, "b": {31}})
    two = TwoSpaces(FeatureSpace(run, "s/a", "unit"), FeatureSpace(run, "s/b", "unit"), dataset)
    for first, second in (two.training, two.test):
        assert first.rows_S.tolist() == second.rows_S.tolist()
        for images, values in ((first, raw(0)), (second, raw(1))):
            unit = values[images.rows_S] / np.linalg.norm(values[images.rows_S], axis=1, keepdims=True)
            np.testing.assert_allclose(images.X_SD, unit, rtol=1e-3, atol=1e-6)
    assert set(range(STIMULI)) - set(two.training[0].rows_S) - set(two.test[0].rows_S) == {1, 30, 31}
