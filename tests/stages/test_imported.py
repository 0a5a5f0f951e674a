"""A user's own weights: they come out as they went in, and what does not fit says which numbers do not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import WeightsConfig, make_config
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.pipeline import run
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages.imported import ImportedWeights, ImportWeights
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import voxels_schema
from scuba_ray.tables.store import RunFolder
from tests.study import BAD, CONSTANT, OK, TinyStudy, assert_equal_tables, write_backbone

VOXELS, DIM = 6, 4


def weights() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(VOXELS, DIM)).astype(np.float32)


def write(folder: Path, kind: str, weights_VD: np.ndarray, bias: np.ndarray | None = None, **columns: Any) -> WeightsConfig:
    """Weights as a file of one kind, with their voxel table beside or inside them."""
    table = pa.table({"voxel_id": np.arange(VOXELS) * 10, "rois": [["faces"]] * VOXELS, **columns})
    path = folder / f"w.{kind}"
    if kind == "parquet":
        rows = pa.array([list(row) for row in weights_VD], pa.list_(pa.float32()))
        pq.write_table(table.append_column("weight", rows), path)
        return WeightsConfig(path=str(path), backbone="tiny")
    if kind == "npy":
        np.save(path, weights_VD)
    else:
        np.savez(path, weight=weights_VD, **({} if bias is None else {"bias": bias}))
    pq.write_table(table, folder / "v.parquet")
    return WeightsConfig(path=str(path), voxels=str(folder / "v.parquet"), backbone="tiny")


def stage(settings: WeightsConfig) -> ImportWeights:
    opened = ImportedWeights("subj01", settings, DIM)
    return ImportWeights(subject="subj01", backbone="tiny", weights=opened, dim=DIM, resources=Resources())


def imported(settings: WeightsConfig) -> pa.Table:
    made = pickle.loads(pickle.dumps(stage(settings)))
    made.setup()
    table = pa.concat_tables([made(made.read(Chunk(0, 0, 4))).table, made(made.read(Chunk(1, 4, VOXELS))).table])
    assert table.schema.equals(voxels_schema(DIM))
    return table


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_every_kind_of_file_gives_the_same_voxels(tmp_path: Path, kind: str) -> None:
    table = imported(write(tmp_path, kind, weights(), r2=np.linspace(0, 0.5, VOXELS), noise_ceiling=[0.5] * 5 + [None]))
    np.testing.assert_array_equal(matrix(table["weight"]), weights())
    assert table["voxel_id"].to_pylist() == [0, 10, 20, 30, 40, 50] and table["rois"][0].as_py() == ["faces"]
    assert set(table["status"].to_pylist()) == {"ok"}
    np.testing.assert_allclose(table["r2"].to_numpy(), np.linspace(0, 0.5, VOXELS), rtol=1e-6)
    assert table["noise_ceiling"].to_pylist() == [0.5] * 5 + [None]
    assert all(table[name].null_count == VOXELS for name in ("bias", "p", "q", "alpha", "r", "hemi", "bad_trials"))


def test_bias_comes_from_the_npz_or_the_table(tmp_path: Path) -> None:
    bias = np.arange(VOXELS, dtype=np.float32)
    assert imported(write(tmp_path, "npz", weights(), bias))["bias"].to_pylist() == bias.tolist()
    settings = write(tmp_path, "npy", weights())
    table = pq.read_table(tmp_path / "v.parquet")
    pq.write_table(table.append_column("bias", pa.array(bias)), tmp_path / "v.parquet")
    assert imported(settings)["bias"].to_pylist() == bias.tolist()


def test_unusable_rows_keep_their_place_and_are_marked(tmp_path: Path) -> None:
    spoilt = weights()
    spoilt[1, 2], spoilt[2, 0], spoilt[4] = np.nan, np.inf, 0
    table = imported(write(tmp_path, "npy", spoilt, r2=[0.5] * VOXELS))
    assert table["status"].to_pylist() == ["ok", "bad", "bad", "ok", "zero", "ok"]
    unusable = [False, True, True, False, True, False]
    assert [row is None for row in table["weight"].to_pylist()] == unusable
    assert [row is None for row in table["r2"].to_pylist()] == unusable


def test_numbers_too_large_for_float32_are_not_finite(tmp_path: Path) -> None:
    large = weights().astype(np.float64)
    large[0, 0] = 1e300
    assert imported(write(tmp_path, "npy", large))["status"].to_pylist()[0] == "bad"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (weights().T, r"shape \(4, 6\), wanted \(6, 4\): 6 voxels in v.parquet by 4 numbers .*transpose it"),
        (weights()[:5], r"shape \(5, 4\), wanted \(6, 4\)"),
        (np.zeros((VOXELS, 7), np.float32), r"shape \(6, 7\), wanted \(6, 4\): .* embedding of tiny$"),
        (weights()[0], r"shape \(4,\), wanted"),
        (np.ones((VOXELS, DIM), np.int16), "holds int16, wanted floating-point"),
        (np.array([[None] * DIM] * VOXELS, object), "not a readable .npy file"),
    ],
)
def test_what_does_not_fit_names_both_numbers(tmp_path: Path, array: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        stage(write(tmp_path, "npy", array))


def test_files_that_are_not_there_or_not_right(tmp_path: Path) -> None:
    settings = write(tmp_path, "npz", weights(), np.ones(3))
    with pytest.raises(DataError, match=r"bias has shape \(3,\), wanted \(6,\)"):
        stage(settings)
    np.savez(tmp_path / "w.npz", w=weights())
    with pytest.raises(DataError, match="no array 'weight'; it has w"):
        stage(settings)
    (tmp_path / "w.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a readable"):
        stage(settings)
    (tmp_path / "w.npz").unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        stage(settings)
    (tmp_path / "w.csv").write_text("1,2")
    with pytest.raises(ConfigError, match=r"must be .npy, .npz or .parquet"):
        stage(settings.model_copy(update={"path": str(tmp_path / "w.csv")}))
    twice = write(tmp_path, "parquet", weights())
    table = pq.read_table(twice.path)
    pq.write_table(table.set_column(0, "voxel_id", pa.array([1] * VOXELS)), twice.path)
    with pytest.raises(DataError, match="voxel_id must be unique"):
        stage(twice)
    pq.write_table(table.drop_columns("weight"), twice.path)
    with pytest.raises(DataError, match="lacks column 'weight'"):
        stage(twice)


def test_weights_of_a_run_imported_give_the_same_projections_and_captions(own_study: TinyStudy) -> None:
    """Round trip; only the voxel tables of the two runs differ, by what an import cannot know."""
    fitted = run(own_study.config())
    voxels = fitted.read("voxels")
    weights_VD = np.full((OK + 2, 24), np.nan, np.float32)
    weights_VD[:OK] = matrix(voxels["weight"].slice(0, OK))
    np.save(own_study.folder / "w.npy", weights_VD)
    pq.write_table(voxels.drop_columns("weight"), own_study.folder / "v.parquet")
    mine = {"path": str(own_study.folder / "w.npy"), "voxels": str(own_study.folder / "v.parquet"), "backbone": "tiny"}
    subjects = [{"name": "subj01", "weights": mine}]
    folder = run(own_study.config(subjects=subjects, out=str(own_study.folder / "run2")))
    assert_equal_tables(fitted, folder, ("projections", "captions"))
    taken = folder.read("voxels")
    for name in ("voxel_id", "rois", "hemi", "bias", "r2", "r", "noise_ceiling", "p", "q"):
        assert taken[name].combine_chunks().equals(voxels[name].combine_chunks()), name
    assert taken["status"].to_pylist()[CONSTANT:] == ["bad", "bad"] and BAD == CONSTANT + 1
    record = folder.read_run_json()
    assert [step.split()[0] for step in record["steps"]] == ["import", "scan", "admit", "bank", "project", "caption", "report"]
    assert record["warnings"] == ["import subj01/tiny: 2 of 12 voxels have weights that are not finite; their status is 'bad'"]
    assert (Path(folder.location) / "report" / "index.html").is_file()
    assert make_config(record["config"]).subjects[0].path is None


def test_a_fitted_and_an_imported_subject_in_one_run(own_study: TinyStudy) -> None:
    np.save(own_study.folder / "w.npy", np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32))
    pq.write_table(pa.table({"voxel_id": [7, 8, 9]}), own_study.folder / "v.parquet")
    mine = {"path": str(own_study.folder / "w.npy"), "voxels": str(own_study.folder / "v.parquet"), "backbone": "tiny"}
    first = {"name": "subj01", "path": str(own_study.folder / "subject")}
    folder = run(own_study.config(subjects=[first, {"name": "theirs", "weights": mine}]))
    assert set(folder.read("captions")["subject"].to_pylist()) == {"subj01", "theirs"}
    before = {path: path.stat().st_mtime_ns for path in Path(folder.location).glob("*/*.parquet")}
    run(own_study.config(subjects=[first, {"name": "theirs", "weights": mine}]))
    assert before == {path: path.stat().st_mtime_ns for path in Path(folder.location).glob("*/*.parquet")}
    np.save(own_study.folder / "w.npy", np.ones((3, 24), np.float32))
    with pytest.raises(ConfigError, match="another data set: theirs"):
        run(own_study.config(subjects=[first, {"name": "theirs", "weights": mine}]))


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ({"name": "a"}, "give `path` .* or `weights`"),
        ({"name": "a", "weights": {"path": "w.npy", "backbone": "tiny"}}, "give `voxels`"),
        ({"name": "a", "weights": {"path": "w.npy", "voxels": "v", "backbone": "x"}}, "backbone 'x', backbones has tiny"),
    ],
)
def test_settings_that_cannot_work(study: TinyStudy, subject: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_config(study.settings(subjects=[subject]))


def test_weights_of_a_backbone_that_is_not_captioned(study: TinyStudy, tmp_path: Path) -> None:
    write(tmp_path, "npy", weights())
    mine = {"path": str(tmp_path / "w.npy"), "voxels": str(tmp_path / "v.parquet"), "backbone": "other"}
    config = study.settings(subjects=[{"name": "a", "weights": mine}], out=str(tmp_path / "run"))
    write_backbone(tmp_path / "other", seed=1)
    config["backbones"].append({"name": "other", "model": f"local-dir:{tmp_path / 'other'}"})
    with pytest.raises(ConfigError, match="weights of a belong to backbone other, but the captioner reads tiny"):
        run(make_config(config))
    assert not RunFolder(str(tmp_path / "run")).read_run_json()
