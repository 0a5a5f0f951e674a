from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.datasets.preparation import averaged, noise_ceilings, standardise, statuses, trials_of
from scuba_ray.protocols import SubjectDataset
from scuba_ray.tables.responses import Prepared
from tests.preparing import written_out

Write = Callable[..., Path]
S, R, V = 60, 3, 6
TESTS = 20


def trials_in_sessions(seed: int = 0, sessions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(S * R) % S
    return order, np.arange(S * R) * sessions // (S * R)


def tables(order: np.ndarray, sessions: np.ndarray) -> dict[str, pa.Table]:
    ids = [f"s{index:02d}" for index in range(S)]
    return {
        "stimuli": pa.table({"stimulus_id": ids, "uri": ids, "split": ["test"] * TESTS + ["train"] * (S - TESTS)}),
        "trials": pa.table({"trial": np.arange(len(order)), "stimulus_id": [ids[i] for i in order], "session": sessions}),
        "voxels": pa.table({"voxel_id": np.arange(V)}),
    }


def prepare(dataset: SubjectDataset, start: int, stop: int) -> Prepared:
    """All sessions of some voxels, without files in between."""
    trials = trials_of(dataset)
    Z_VT = np.empty((stop - start, len(trials.session_T)), np.float32)
    bad_V, varies_V, seen_V = np.zeros(stop - start, np.int32), np.zeros(stop - start, bool), np.zeros(stop - start, bool)
    for session in trials.sessions:
        here_T = trials.session_T == session
        one = standardise(dataset.read_session(session)[:, start:stop].T, trials.train_S[trials.stimulus_T[here_T]])
        Z_VT[:, here_T] = one.Z_VT
        bad_V += one.bad_trials_V
        varies_V |= one.varies_V
        seen_V |= one.training_trials_V > 0
    status = statuses(bad_V, Z_VT.shape[1], varies_V, seen_V)
    ncsnr_V = dataset.voxels()["ncsnr"].to_numpy()[start:stop].astype(np.float32)
    return Prepared(averaged(Z_VT, trials).T, noise_ceilings(Z_VT, ncsnr_V, trials, status), bad_V, tuple(status))


@pytest.fixture
def made(write_dataset: Write) -> Callable[..., Prepared]:
    count = 0

    def make(responses: np.ndarray, start: int = 0, stop: int = V, **changes: pa.Table) -> Prepared:
        nonlocal count
        count += 1
        order, sessions = trials_in_sessions()
        folder = write_dataset(f"data{count}", responses=responses.astype(np.float32), **{**tables(order, sessions), **changes})
        return prepare(ArraysDataset("a", str(folder)), start, stop)

    return make


def noise(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(S * R, V))


def test_baselines_and_gains_of_sessions_are_removed(made: Callable[..., Prepared]) -> None:
    _, sessions = trials_in_sessions()
    gains = np.array([1.0, 40.0, 0.05])[sessions][:, None]
    drifted = noise() * gains + np.array([0.0, 300.0, -2.0])[sessions][:, None]
    # the published constant added to the deviation weighs 2e-5 in the session of gain .05
    np.testing.assert_allclose(made(drifted).Y_SV, made(noise()).Y_SV, atol=2e-4)


def test_test_trials_never_reach_the_training_part(made: Callable[..., Prepared]) -> None:
    order, _ = trials_in_sessions()
    poisoned = noise()
    poisoned[order < TESTS] = 1e6 + 1e5 * noise(2)[order < TESTS]
    clean, spoilt = made(noise()), made(poisoned)
    np.testing.assert_array_equal(spoilt.Y_SV[TESTS:], clean.Y_SV[TESTS:])
    assert (np.abs(spoilt.Y_SV[:TESTS]) > 1e4).all()


def test_against_the_formula_written_out(made: Callable[..., Prepared]) -> None:
    order, sessions = trials_in_sessions()
    X = noise().astype(np.float32).astype(np.float64) * 3 + 7
    Z = np.empty_like(X)
    for session in range(3):
        here = sessions == session
        training = X[here & (order >= TESTS)]
        Z[here] = (X[here] - training.mean(0)) / (training.std(0) + 1e-6)
    wanted = np.stack([Z[order == stimulus].mean(0) for stimulus in range(S)])
    prepared = made(X)
    np.testing.assert_allclose(prepared.Y_SV, wanted, atol=1e-5)
    assert prepared.Y_SV.dtype == np.float32
    assert prepared.status_V == ("ok",) * V and prepared.bad_trials_V.sum() == 0


def test_a_run_of_voxels_is_that_part_of_all(made: Callable[..., Prepared]) -> None:
    part, whole = made(noise(), 2, 5), made(noise())
    np.testing.assert_array_equal(part.Y_SV, whole.Y_SV[:, 2:5])
    np.testing.assert_allclose(part.noise_ceiling_V, whole.noise_ceiling_V[2:5], rtol=1e-5)


def test_missing_trials_are_counted_and_count_as_the_mean(made: Callable[..., Prepared]) -> None:
    order, _ = trials_in_sessions()
    X = noise()
    first = np.flatnonzero(order == 30)
    X[first[0], 0], X[first[1], 0] = np.nan, -np.inf
    X[:60, 1] = np.nan
    X[:, 2] = np.nan
    X[:, 3] = 0.1
    X[::2, 3] = np.nan
    prepared = made(X)
    assert prepared.bad_trials_V.tolist() == [2, 60, 180, 180, 0, 0]
    assert prepared.status_V == ("ok", "bad", "bad", "constant", "ok", "ok")
    assert np.isfinite(prepared.Y_SV).all()
    assert (prepared.Y_SV[:, 2:4] == 0).all()
    assert np.isnan(prepared.noise_ceiling_V[1:4]).all() and np.isfinite(prepared.noise_ceiling_V[[0, 4, 5]]).all()
    kept = made(np.where(np.isfinite(X), X, np.nan)).Y_SV[30, 0]
    assert prepared.Y_SV[30, 0] == kept


def test_a_session_without_variance_is_missing_not_enormous(made: Callable[..., Prepared]) -> None:
    order, sessions = trials_in_sessions()
    X = noise()
    X[(sessions == 0) & (order >= TESTS), 0] = 5.0
    prepared = made(X)
    assert prepared.bad_trials_V[0] == 60
    assert np.abs(prepared.Y_SV[:, 0]).max() < 10


def test_ceilings_from_repeats_follow_the_planted_ones(made: Callable[..., Prepared]) -> None:
    order, _ = trials_in_sessions()
    generator = np.random.default_rng(3)
    signal, ncsnr = generator.normal(size=(S, V)), np.array([0.0, 0.3, 0.6, 1.0, 1.5, 2.0])
    prepared = made(signal[order] * ncsnr + generator.normal(size=(S * R, V)))
    planted = ncsnr**2 / (ncsnr**2 + 1 / 3)
    np.testing.assert_allclose(prepared.noise_ceiling_V, planted, atol=0.2)
    assert np.corrcoef(prepared.noise_ceiling_V, planted)[0, 1] > 0.9


def test_ceilings_from_ncsnr_where_it_is_known(made: Callable[..., Prepared]) -> None:
    voxels = pa.table({"voxel_id": np.arange(V), "ncsnr": pa.array([1.0, 0.0, None, 2.0, 0.5, 0.1], pa.float32())})
    ceiling = made(noise(), voxels=voxels).noise_ceiling_V
    known = np.array([1.0, 0.0, 2.0, 0.5, 0.1])
    np.testing.assert_allclose(ceiling[[0, 1, 3, 4, 5]], known**2 / (known**2 + 1 / 3), rtol=1e-5)
    assert ceiling[2] == pytest.approx(made(noise()).noise_ceiling_V[2], rel=1e-4)


def test_without_repeats_there_is_no_ceiling(write_dataset: Write) -> None:
    order, sessions = np.arange(S), np.arange(S) * 2 // S
    # the first thirty stimuli are the first session: of those twenty are for testing
    folder = write_dataset(responses=np.random.default_rng(0).normal(size=(S, V)).astype(np.float32), **tables(order, sessions))
    prepared = prepare(ArraysDataset("a", str(folder)), 0, V)
    assert np.isnan(prepared.noise_ceiling_V).all()
    assert prepared.status_V == ("ok",) * V


def test_a_session_without_training_trials_is_missing() -> None:
    one = standardise(np.random.default_rng(0).normal(size=(V, 9)), np.zeros(9, bool))
    assert (one.Z_VT == 0).all() and (one.bad_trials_V == 9).all()
    assert not one.varies_V.any() and (one.training_trials_V == 0).all()


def test_the_reference_of_other_tests_is_this(write_dataset: Write) -> None:
    order, sessions = trials_in_sessions()
    X = noise()
    X[:70, 0], X[5, 1], X[:, 2] = np.nan, np.inf, 4.0
    dataset = ArraysDataset("a", str(write_dataset(responses=X.astype(np.float32), **tables(order, sessions))))
    np.testing.assert_allclose(prepare(dataset, 0, V).Y_SV, written_out(dataset), atol=1e-6)
