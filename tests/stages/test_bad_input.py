"""What labs' data are like: few repeats, few images, a fold that says nothing. Runs go on and say what they could not do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.core.ridge import fold_of_images
from scuba_ray.pipeline import run
from scuba_ray.stages import cautions
from scuba_ray.tables.columns import matrix
from tests.stages.test_fit import encoded, fit_stage, fits
from tests.study import OK, SESSIONS, STIMULI, TEST, TinyStudy


def rewrite(study: TinyStudy, keep: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Keep some trials of the subject: `keep` gets each trial's image number and how often the image was shown before."""
    subject = study.folder / "subject"
    trials, responses = pq.read_table(subject / "trials.parquet"), np.load(subject / "responses.npy")
    image_T = np.array([int(name[1:]) for name in trials["stimulus_id"].to_pylist()])
    before_T = np.array([np.sum(image_T[:trial] == image) for trial, image in enumerate(image_T)])
    kept = keep(image_T, before_T)
    trials = trials.filter(pa.array(kept))
    pq.write_table(trials.set_column(0, "trial", pa.array(np.arange(len(trials)))), subject / "trials.parquet")
    np.save(subject / "responses.npy", responses[kept])


def test_no_repeats_at_all(own_study: TinyStudy) -> None:
    """No ceiling: the whole run says so and goes on to captions."""
    rewrite(own_study, lambda image, before: before == 0)
    folder = run(own_study.config())
    voxels = folder.read("voxels", key="subj01/tiny").slice(0, OK)
    assert voxels["noise_ceiling"].null_count == voxels["r2_normalised"].null_count == OK
    assert voxels["r2"].null_count == voxels["q"].null_count == 0
    assert folder.read("captions").num_rows == OK * 6
    (said,) = [one for one in folder.read_run_json()["warnings"] if "fit subj01/tiny: no voxel has a noise ceiling" in one]
    assert "no image was shown twice" in said and "r2_normalised is null" in said


def test_one_image_with_a_repeat(own_study: TinyStudy, tmp_path: Path) -> None:
    """A ceiling from a single pair is poor, but it is a share of variance and nothing is NaN."""
    rewrite(own_study, lambda image, before: (before == 0) | (image == TEST))
    path = own_study.folder / "subject" / "trials.parquet"
    trials = pq.read_table(path)
    pq.write_table(trials.set_column(2, "session", pa.array([0] * len(trials), pa.int32())), path)
    table = fits(fit_stage(own_study, encoded(own_study, tmp_path / "run"))).slice(0, OK)
    ceiling = table["noise_ceiling"].to_numpy()
    assert table["noise_ceiling"].null_count == 0 and ((ceiling >= 0) & (ceiling <= 1)).all()


def test_a_voxel_with_one_repeat(own_study: TinyStudy, tmp_path: Path) -> None:
    """A voxel that was measured in the first of two showings only is marked; its neighbours are what they were."""
    path = own_study.folder / "subject" / "responses.npy"
    whole = fits(fit_stage(own_study, encoded(own_study, tmp_path / "one")))
    responses = np.load(path)
    responses[STIMULI:, 4] = np.nan
    np.save(path, responses)
    table = fits(fit_stage(own_study, encoded(own_study, tmp_path / "two")))
    row = table.slice(4, 1).to_pylist()[0]
    assert row["status"] == "bad" and row["bad_trials"] == STIMULI
    assert all(row[name] is None for name in ("weight", "r2", "noise_ceiling", "p"))
    for column in ("r2", "noise_ceiling", "p"):
        assert table[column].take([3, 5]).equals(whole[column].take([3, 5]))


def test_fewer_images_than_features(own_study: TinyStudy) -> None:
    """20 training images for 24 features: the penalty decides, weights are finite, and the run says so."""
    subject = own_study.folder / "subject"
    rewrite(own_study, lambda image, before: image < TEST + 20)
    stimuli = pq.read_table(subject / "stimuli.parquet").slice(0, TEST + 20)
    pq.write_table(stimuli, subject / "stimuli.parquet")
    folder = run(own_study.config())
    voxels = folder.read("voxels", key="subj01/tiny").slice(0, OK)
    assert np.isfinite(matrix(voxels["weight"])).all() and voxels["r2"].null_count == 0
    assert any("20 training images for 24 features" in one for one in folder.read_run_json()["warnings"])


def test_a_fold_without_variance(own_study: TinyStudy, tmp_path: Path) -> None:
    """A voxel that answers alike to all images of one fold: the other folds choose its alpha."""
    path = own_study.folder / "subject" / "responses.npy"
    flat = TEST + np.flatnonzero(fold_of_images(STIMULI - TEST, 3, 0).numpy() == 0)
    trials = pq.read_table(own_study.folder / "subject" / "trials.parquet")
    image_T = np.array([int(name[1:]) for name in trials["stimulus_id"].to_pylist()])
    responses = np.load(path)
    for session in range(SESSIONS):
        mine = trials["session"].to_numpy() == session
        responses[mine & np.isin(image_T, flat), 2] = 5.0 * session
    np.save(path, responses)
    row = fits(fit_stage(own_study, encoded(own_study, tmp_path / "run"))).slice(2, 1).to_pylist()[0]
    assert row["status"] == "ok" and np.isfinite(row["weight"]).all()
    assert all(np.isfinite(row[name]) for name in ("alpha", "r2", "r", "p", "split_half"))


def test_pictures_of_a_fold_that_are_all_alike(own_study: TinyStudy, tmp_path: Path) -> None:
    """Features without variance in one fold."""
    images = own_study.folder / "subject" / "images"
    flat = TEST + np.flatnonzero(fold_of_images(STIMULI - TEST, 3, 0).numpy() == 0)
    for image in flat[1:]:
        (images / f"s{image:04d}.png").write_bytes((images / f"s{flat[0]:04d}.png").read_bytes())
    table = fits(fit_stage(own_study, encoded(own_study, tmp_path / "run"))).slice(0, OK)
    assert np.isfinite(matrix(table["weight"])).all() and table["r"].null_count == 0


@pytest.mark.parametrize(
    ("edges", "largest", "said"),
    [
        (0, 0, None),
        (1, 1, None),
        (2, 2, r"10% of 20 .* \(10% on the largest, 0% on the smallest\)"),
        (20, 5, r"100% of 20 .* \(25% on the largest, 75%"),
    ],
)
def test_alphas_on_the_edge_are_said_above_a_share(study: TinyStudy, edges: int, largest: int, said: str | None) -> None:
    """More than 5 % of the voxels; the message names the setting."""
    settings = study.config().fit
    low, high = settings.alpha_log10
    alpha = [10**high] * largest + [10**low] * (edges - largest) + [1.0] * (20 - edges)
    edge = [True] * edges + [False] * (20 - edges)
    voxels = pa.table({"alpha": pa.array(alpha, pa.float32()), "alpha_at_edge": edge, "q": pa.nulls(20, pa.float32())})
    messages = list(cautions.alphas(voxels, "s/b", settings))
    assert len(messages) == (said is not None)
    if said is not None:
        assert re.search(said, messages[0]) and "widen fit.alpha_log10, now [-2, 5]" in messages[0]


def test_alphas_of_voxels_that_predict_nothing_are_no_warning(study: TinyStudy) -> None:
    settings = study.config().fit
    high = 10 ** settings.alpha_log10[1]
    columns = {"alpha": pa.array([high] * 10 + [1.0] * 10, pa.float32()), "alpha_at_edge": [True] * 10 + [False] * 10}
    noise = pa.table({**columns, "q": pa.array([0.5] * 10 + [0.01] * 10, pa.float32())})
    assert list(cautions.alphas(noise, "s/b", settings)) == []
    signal = pa.table({**columns, "q": pa.array([0.01] * 10 + [0.5] * 10, pa.float32())})
    assert "100% of 10 voxels that predict test images" in next(cautions.alphas(signal, "s/b", settings))
