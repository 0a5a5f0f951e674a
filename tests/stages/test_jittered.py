"""The published optimiser's features: jittered anew every epoch, the same for every cut, of training images alone."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from scuba_ray.core.sgd import jitter, orders
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.clip import OpenClipBackbone, make_backbone
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages.fit import Fit
from scuba_ray.stages.jittered import JitteredFeatures
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder
from tests.preparing import written_out
from tests.stages.test_fit import encoded
from tests.study import OK, STIMULI, TEST, TinyStudy

TRAIN = STIMULI - TEST


def fit_stage(study: TinyStudy, run: RunFolder, seed: int = 0, **fit: Any) -> Fit:
    """A fit as the pipeline makes one; 3 epochs suffice to see a jitter."""
    settings = {"method": "sgd", "epochs": 3, "batch": 16, "learning_rate": 0.05, "permutations": 0, "folds": 3, **fit}
    config = study.config(fit=settings)
    space: dict[str, Any] = {"backbone": "tiny", "dim": 24, "run": run, "network": make_backbone(config.backbones[0])}
    return Fit(subject=config.subjects[0], settings=config.fit, seed=seed, resources=Resources(), **space)


def fits(stage: Fit, start: int = 0, stop: int = OK) -> pa.Table:
    stage.setup()
    return stage(stage.read(Chunk(0, start, stop))).table


@pytest.fixture(scope="module")
def run(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return encoded(study, tmp_path_factory.mktemp("encoded"))


def features(stage: Fit) -> JitteredFeatures:
    assert stage._jittered is not None
    return stage._jittered


def test_features_of_an_epoch_are_the_jittered_pictures_encoded(study: TinyStudy, run: RunFolder) -> None:
    stage = fit_stage(study, run)
    X_SD = features(stage)(1)
    network = OpenClipBackbone("tiny", f"local-dir:{study.folder / 'backbone'}").load("cpu")
    read = stage._dataset.images().read
    uris = stage._dataset.stimuli()["uri"].to_pylist()[TEST:]
    pixels_S3HW = torch.stack([network.preprocess(Image.open(io.BytesIO(read(uri))).convert("RGB")) for uri in uris])
    mean_3, std_3 = (torch.tensor(network._settings[name]) for name in ("mean", "std"))
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([0, 1]).generate_state(1)[0]))
    for rows in list(islice(orders(TRAIN, 0), 2))[1].split(16):
        raw_BD = network.embed_images(jitter(pixels_S3HW[rows], generator, mean_3=mean_3, std_3=std_3))
        torch.testing.assert_close(X_SD[rows], raw_BD / raw_BD.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-5)


def test_epochs_differ_and_come_back_as_they_were(study: TinyStudy, run: RunFolder) -> None:
    mine, another = features(fit_stage(study, run)), features(fit_stage(study, run))
    first, second = mine(0), mine(1)
    assert not torch.allclose(first, second, atol=1e-4)
    assert torch.equal(mine(0), first) and torch.equal(mine(1), second)
    assert torch.equal(another(1), second), "another worker, and epochs in another order"
    assert not torch.equal(features(fit_stage(study, run, seed=1))(0), first)


def test_jitter_changes_weights_a_little_and_the_same_way_each_time(study: TinyStudy, run: RunFolder) -> None:
    jittered, again = (matrix(fits(fit_stage(study, run))["weight"]) for _ in range(2))
    clean = matrix(fits(fit_stage(study, run, jitter=False))["weight"])
    np.testing.assert_array_equal(jittered, again)
    cosine_V = (jittered * clean).sum(1) / np.linalg.norm(jittered, axis=1) / np.linalg.norm(clean, axis=1)
    assert (cosine_V < 0.99999).all() and (cosine_V > 0.8).all()


def test_every_cut_gives_the_same_voxels(study: TinyStudy, run: RunFolder) -> None:
    whole = fits(fit_stage(study, run))
    one_worker = fit_stage(study, run)
    parts = [fits(one_worker, 0, 3), fits(one_worker, 3, 8), fits(fit_stage(study, run), 8, OK)]
    cut = pa.concat_tables(parts)
    for column in ("bias", "r2", "split_half"):
        np.testing.assert_allclose(cut[column].to_numpy(), whole[column].to_numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(matrix(cut["weight"]), matrix(whole["weight"]), rtol=1e-4, atol=1e-5)


def test_test_images_are_never_read_and_scored_clean(own_study: TinyStudy, tmp_path: Path) -> None:
    run = encoded(own_study, tmp_path / "run")
    images = own_study.folder / "subject" / "images"
    for index in range(TEST):
        (images / f"s{index:04d}.png").unlink()
    stage = fit_stage(own_study, run)
    table = fits(stage)
    raw_SD = matrix(run.read("embeddings")["embedding"]).astype(float)[:TEST]
    P_SV = raw_SD / np.linalg.norm(raw_SD, axis=1, keepdims=True) @ matrix(table["weight"]).T + table["bias"].to_numpy()
    Y_SV = written_out(stage._dataset)[:TEST, :OK]
    r_V = [np.corrcoef(P_SV[:, voxel], Y_SV[:, voxel])[0, 1] for voxel in range(OK)]
    np.testing.assert_allclose(table["r"].to_numpy(), r_V, atol=1e-3)


def test_an_image_without_embedding_takes_no_part_and_a_lost_one_is_an_error(own_study: TinyStudy, tmp_path: Path) -> None:
    picture = own_study.folder / "subject" / "images" / f"s{TEST + 4:04d}.png"
    intact = picture.read_bytes()
    picture.write_bytes(b"no picture")
    run = encoded(own_study, tmp_path / "run")
    assert features(fit_stage(own_study, run))(0).shape == (TRAIN - 1, 24)
    picture.write_bytes(intact)
    run = encoded(own_study, tmp_path / "whole")
    picture.unlink()
    with pytest.raises(DataError, match=f"stimulus s{TEST + 4:04d} has an embedding, but its picture is gone"):
        fit_stage(own_study, run).setup()


def test_only_an_sgd_fit_of_embeddings_loads_the_network(study: TinyStudy, run: RunFolder) -> None:
    for settings in ({"method": "ridge"}, {"jitter": False}):
        stage = fit_stage(study, run, **settings)
        stage.setup()
        assert stage._jittered is None and stage.network is not None and stage.network._network is None  # type: ignore[attr-defined]


def test_a_backbone_that_normalises_otherwise_is_refused(study: TinyStudy, run: RunFolder) -> None:
    class PerPicture(OpenClipBackbone):
        def normalise(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
            pixels_B3HW = super().normalise(pixels_B3HW)
            return pixels_B3HW - pixels_B3HW.mean((2, 3), keepdim=True)

    stage = fit_stage(study, run)
    network = PerPicture("tiny", f"local-dir:{study.folder / 'backbone'}").load("cpu")
    with pytest.raises(ConfigError, match=r"set fit\.jitter to false"):
        JitteredFeatures(network, stage._dataset, stage._training.rows_S, settings=stage.settings, encode=stage.encode, seed=0)
