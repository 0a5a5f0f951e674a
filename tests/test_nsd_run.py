"""A phantom written as NSD and run like NSD gives what the phantom gives: the planted tuning comes through the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scuba_ray.config import make_config
from scuba_ray.phantom.make import make_phantom
from scuba_ray.phantom.truth import read_truth
from scuba_ray.pipeline import run
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from tests.datasets.nsd_files import Planted, nsd_of_arrays

VOXELS = 60


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Planted, Path]:
    """One run of two subjects: the phantom as it is, and the same as NSD; float16 in between, as for a large subject."""
    folder = tmp_path_factory.mktemp("run")
    phantom = make_phantom(folder / "phantom", seed=3, voxels=VOXELS, images=300, bank=100)
    planted = nsd_of_arrays(phantom, folder / "nsd")
    (planted.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").unlink()
    options = {"sessions_done": [2] * 8, "test": "shared1000"}
    settings = {
        "name": "nsd",
        "out": str(folder / "run"),
        "engine": {"name": "local"},
        "subjects": [
            {"name": "phantom", "path": str(phantom)},
            {"name": "subj01", "dataset": "nsd", "path": str(folder / "nsd"), "options": options},
        ],
        "backbones": ["phantom:clip"],
        "prepare": {"dtype": "float16"},
        "fit": {"permutations": 20, "folds": 3, "alphas": 8, "low_level": False, "bands": []},
        "bank": {"images": str(phantom / "bank")},
        "caption": {"model": "phantom:captioner", "beams": 1, "max_tokens": 12},
        "rerank": None,
        "score": None,
        "analyses": [],
    }
    return run(make_config(settings)), planted, phantom


def rows(folder: RunFolder, table: str, subject: str) -> list[dict[str, object]]:
    return [row for row in folder.read(table).to_pylist() if row["subject"] == subject]


def test_what_was_found_and_what_is_missing_is_on_record_once(finished: tuple[RunFolder, Planted, Path]) -> None:
    said = finished[0].read_run_json()
    assert set(said["subjects"]) == {"subj01"}, "the layout of the phantom has nothing to say"
    assert said["subjects"]["subj01"]["test"] == "shared1000" and said["subjects"]["subj01"]["sessions"] == "1-2"
    assert sum(warning.startswith("subj01: no COCO ids: ") for warning in said["warnings"]) == 1


def test_every_voxel_is_fitted_as_well_as_in_the_phantom(finished: tuple[RunFolder, Planted, Path]) -> None:
    folder, planted, _ = finished
    order = planted.order()
    table = folder.read("voxels")
    subject = np.array(table["subject"].to_pylist())
    r, weights = np.array(table["r"].to_pylist(), float), matrix(table["weight"])
    phantom, nsd = np.flatnonzero(subject == "phantom")[order], np.flatnonzero(subject == "subj01")
    # int16 at 300 a percent and float16 z-scores leave r within a few thousandths
    np.testing.assert_allclose(r[nsd], r[phantom], atol=0.01)
    cosine = (
        (weights[nsd] * weights[phantom]).sum(1) / np.linalg.norm(weights[nsd], axis=1) / np.linalg.norm(weights[phantom], axis=1)
    )
    assert np.median(cosine) > 0.999
    assert [row["vertex"] for row in rows(folder, "voxels", "subj01")] == planted.vertex_V[order].tolist()


def test_what_was_planted_is_found_through_the_layout(finished: tuple[RunFolder, Planted, Path]) -> None:
    folder, planted, phantom = finished
    truth = read_truth(phantom)[0].to_pylist()
    r = [row["r"] for row in rows(folder, "voxels", "subj01")]
    good = [
        place
        for place, voxel in enumerate(planted.order())
        if truth[voxel]["voxel_class"] == "single" and truth[voxel]["noise_ceiling"] > 0.4
    ]
    null = [place for place, voxel in enumerate(planted.order()) if truth[voxel]["voxel_class"] == "null"]
    assert len(good) > 5 and np.median(np.array(r, float)[good]) > 0.3
    assert len(null) > 3 and abs(np.median(np.array(r, float)[null])) < 0.15


def test_most_voxels_get_the_phantoms_caption(finished: tuple[RunFolder, Planted, Path]) -> None:
    folder, planted, _ = finished
    said = {
        name: {row["voxel_id"]: row["caption"] for row in rows(folder, "captions", name) if row["partition"] == WHOLE_BANK}
        for name in ("phantom", "subj01")
    }
    pairs = zip(said["subj01"].values(), (said["phantom"][voxel] for voxel in planted.order()), strict=True)
    assert np.mean([one == other for one, other in pairs]) > 0.9
