"""Preparation in two passes: the numbers of the formula, whatever the cut; single trials are gone afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import PrepareConfig, SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.errors import DataError
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages.read_sessions import ReadSessions
from scuba_ray.tables.responses import read_responses
from scuba_ray.tables.store import RunFolder
from tests.preparing import memory_of_preparing, prepare_responses, written_out
from tests.study import BAD, CONSTANT, OK, SESSIONS, TEST, TinyStudy, write_subject


class TestTrialsLast(ArraysDataset):
    """Training trials in sessions 2, 5 and 11, which alternate; every test trial in session 30."""

    __test__ = False

    def trials(self) -> pa.Table:
        trials = super().trials()
        sessions = [
            30 if int(one[1:]) < TEST else (2, 5, 11)[row % 3] for row, one in enumerate(trials["stimulus_id"].to_pylist())
        ]
        return trials.set_column(2, "session", pa.array(sessions, pa.int32()))

    def read_session(self, session: int) -> np.ndarray:
        return self._responses[self.trials()["session"].to_numpy() == session]


class Short(ArraysDataset):
    """A layout that lost a trial."""

    def read_session(self, session: int) -> np.ndarray:
        return super().read_session(session)[1:]


def subject(study: TinyStudy, layout: str = "arrays") -> SubjectConfig:
    return SubjectConfig(name="subj01", dataset=layout, path=str(study.folder / "subject"))


def test_both_passes_give_the_formula_written_out(study: TinyStudy, tmp_path: Path) -> None:
    run, one = RunFolder(str(tmp_path)), subject(study)
    prepared = prepare_responses(run, one)
    np.testing.assert_allclose(prepared.Y_SV, written_out(make_dataset(one)), atol=2e-6)
    assert prepared.Y_SV.dtype == np.float32 and np.isfinite(prepared.Y_SV).all()
    assert prepared.status_V == ("ok",) * OK + ("constant", "bad")
    assert prepared.bad_trials_V.tolist() == [1, *[0] * (OK - 1), 120, 60]
    assert np.isnan(prepared.noise_ceiling_V[[CONSTANT, BAD]]).all() and (prepared.noise_ceiling_V[:OK] > 0.5).all()
    table = run.read("responses")
    assert table["voxel_id"].to_pylist() == make_dataset(one).voxels()["voxel_id"].to_pylist()
    assert table["noise_ceiling"].null_count == 2
    assert not list(Path(run.location, "sessions").glob("*.parquet")), "single trials are scratch"


@pytest.mark.parametrize("chunk", [1, 5, 7])
def test_any_cut_gives_the_same_responses(study: TinyStudy, tmp_path: Path, chunk: int) -> None:
    whole = prepare_responses(RunFolder(str(tmp_path / "whole")), subject(study))
    run = RunFolder(str(tmp_path / "cut"))
    cut = prepare_responses(run, subject(study), PrepareConfig(chunk=chunk))
    np.testing.assert_array_equal(cut.Y_SV, whole.Y_SV)
    np.testing.assert_allclose(cut.noise_ceiling_V, whole.noise_ceiling_V, rtol=1e-6)
    assert (cut.status_V, cut.bad_trials_V.tolist()) == (whole.status_V, whole.bad_trials_V.tolist())
    some = read_responses(run, "subj01", 3, 9)
    np.testing.assert_array_equal(some.Y_SV, whole.Y_SV[:, 3:9])
    assert some.status_V == whole.status_V[3:9]


def test_half_precision_is_kept_only_in_between(study: TinyStudy, tmp_path: Path) -> None:
    exact = prepare_responses(RunFolder(str(tmp_path / "exact")), subject(study))
    half = prepare_responses(RunFolder(str(tmp_path / "half")), subject(study), PrepareConfig(dtype="float16"))
    assert half.Y_SV.dtype == np.float32 and (half.Y_SV != exact.Y_SV).any()
    np.testing.assert_allclose(half.Y_SV, exact.Y_SV, atol=2e-3)


def test_z_scores_beyond_half_precision_stay_finite(own_study: TinyStudy, tmp_path: Path) -> None:
    path = own_study.folder / "subject" / "responses.npy"
    responses_TV = np.load(path)
    responses_TV[7, 0] = 1e9
    np.save(path, responses_TV)
    assert np.isfinite(prepare_responses(RunFolder(str(tmp_path)), subject(own_study), PrepareConfig(dtype="float16")).Y_SV).all()


def test_a_session_of_test_trials_alone_has_no_mean_and_counts_as_missing(study: TinyStudy, tmp_path: Path) -> None:
    one = subject(study, "tests.stages.test_prepare:TestTrialsLast")
    prepared = prepare_responses(RunFolder(str(tmp_path)), one, PrepareConfig(chunk=5))
    np.testing.assert_allclose(prepared.Y_SV, written_out(make_dataset(one)), atol=2e-6)
    assert (prepared.Y_SV[:TEST] == 0).all() and (prepared.Y_SV[TEST:, :OK] != 0).any(0).all()
    assert prepared.status_V == ("bad",) * OK + ("constant", "bad")
    assert prepared.bad_trials_V[1] == 2 * TEST


def test_a_part_holds_a_session_in_groups_of_voxels(study: TinyStudy, tmp_path: Path) -> None:
    stage = ReadSessions(subject=subject(study), settings=PrepareConfig(chunk=5), resources=Resources())
    stage.setup()
    run = RunFolder(str(tmp_path))
    unit = run.begin(step="read", table="sessions", key="subj01", fingerprint="f" * 64)
    for session in range(SESSIONS):
        chunk = Chunk(session, session, session + 1)
        unit.write(chunk, stage(stage.read(chunk)).table)
        about = pq.ParquetFile(tmp_path / "sessions" / unit.part_name(chunk)).metadata
        assert [about.row_group(group).num_rows for group in range(about.num_row_groups)] == [5, 5, 2]
    run.finish(unit, [Chunk(session, session, session + 1) for session in range(SESSIONS)])
    assert run.read("sessions")["session"].to_pylist() == [0] * (OK + 2) + [1] * (OK + 2)


def test_responses_that_do_not_fit_the_tables_are_told_and_not_quarantined(study: TinyStudy, tmp_path: Path) -> None:
    words = r"session 0 of subj01 has responses of shape \(59, 12\), wanted \(60, 12\)"
    with pytest.raises(DataError, match=words):
        prepare_responses(RunFolder(str(tmp_path)), subject(study, "tests.stages.test_prepare:Short"))
    assert RunFolder(str(tmp_path)).quarantine().num_rows == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_that_of_a_session_and_of_a_block_never_of_all_trials(tmp_path: Path) -> None:
    """12,000 trials of 5,000 voxels are 229 MiB; a session of 250 trials is 5 MiB, a block of 100 voxels 3 MiB."""
    small, large = write_subject(tmp_path / "small"), write_subject(tmp_path / "large")
    trials, voxels, together = 12_000, 5_000, 250
    generator = np.random.default_rng(0)
    ids = [f"s{index % 60:04d}" for index in range(trials)]
    sessions = pa.array(np.arange(trials) // together, pa.int32())
    pq.write_table(pa.table({"trial": np.arange(trials), "stimulus_id": ids, "session": sessions}), large / "trials.parquet")
    pq.write_table(pa.table({"voxel_id": np.arange(voxels)}), large / "voxels.parquet")
    responses_TV = np.lib.format.open_memmap(large / "responses.npy", mode="w+", dtype=np.float32, shape=(trials, voxels))
    for start in range(0, trials, together):
        responses_TV[start : start + together] = generator.standard_normal((together, voxels), dtype=np.float32)
    del responses_TV
    held = memory_of_preparing(large, tmp_path / "run two", after=small, into=tmp_path / "run one", chunk=100)
    assert held / 2**20 < 114, "half of all trials"
