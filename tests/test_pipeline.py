"""A whole run on a tiny study: what its tables hold, what a second run does, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scuba_ray.banks import build_bank
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.pipeline import run
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.progress import Progress
from scuba_ray.tables.schemas import KEYS, WHOLE_BANK, schema_for
from scuba_ray.tables.store import RunFolder
from tests.study import (
    BAD,
    BANK,
    CONSTANT,
    OK,
    STIMULI,
    TABLES,
    TEST,
    TinyStudy,
    assert_equal_tables,
    write_backbone,
    write_pictures,
    write_subject,
)


@pytest.fixture(scope="module")
def finished(study: TinyStudy) -> RunFolder:
    return run(study.config())


def parts(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """Every part of a run with what changes when it is written again."""
    found = sorted(Path(folder.location).glob("*/*.parquet"))
    return {str(path.relative_to(folder.location)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def rewritten(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in after if before.get(name) != after[name]}


def test_tables_have_their_schemas_keys_and_rows(finished: RunFolder) -> None:
    rows = {"responses": OK + 2, "embeddings": STIMULI, "bank": BANK}
    rows |= {"fits": OK + 2, "voxels": OK + 2, "projections": OK * 6, "captions": OK * 6}
    for name, count in rows.items():
        table = finished.read(name)
        assert table.schema.equals(schema_for(name, 24)), name
        assert table.num_rows == count, name
        keys = list(zip(*(table[key].to_pylist() for key in KEYS[name]), strict=True))
        assert len(set(keys)) == count, name
        assert pq.read_table(f"{finished.location}/{name}").num_rows == count, "any Parquet reader reads the folder"


def test_no_table_holds_nan_or_infinity(finished: RunFolder) -> None:
    for name in TABLES:
        for row in finished.read(name).to_pylist():
            for column, value in row.items():
                for number in value if isinstance(value, list) else [value]:
                    assert not isinstance(number, float) or math.isfinite(number), (name, column)


def test_unusable_voxels_are_marked_and_never_captioned(finished: RunFolder) -> None:
    voxels = {row["voxel_id"] - 100: row for row in finished.read("voxels").to_pylist()}
    assert {voxel: row["status"] for voxel, row in voxels.items() if row["status"] != "ok"} == {CONSTANT: "constant", BAD: "bad"}
    for voxel in (CONSTANT, BAD):
        scores = ("weight", "bias", "alpha", "alpha_at_edge", "r2", "r", "noise_ceiling", "r2_normalised", "p", "q", "split_half")
        assert all(voxels[voxel][score] is None for score in scores)
        assert voxels[voxel]["bad_trials"] > 0
    assert voxels[0]["bad_trials"] == 1, "the infinite response is counted"
    assert voxels[0]["weight"] is not None
    captioned = set(finished.read("captions")["voxel_id"].to_pylist())
    assert captioned == {voxel + 100 for voxel in range(OK)}


def test_voxels_that_cannot_be_fitted_are_told(finished: RunFolder) -> None:
    said = [one for one in finished.read_run_json()["warnings"] if one.startswith("prepare subj01: 1 of 12 voxels ")]
    assert len(said) == 2 and "lack more than 10% of their trials" in said[0] and said[1].endswith("their status is 'constant'")


def test_scores_are_what_their_names_say(finished: RunFolder) -> None:
    good = [row for row in finished.read("voxels").to_pylist() if row["status"] == "ok"]
    assert np.median([row["r"] for row in good]) > 0.3, "voxels answer to colours, and so does the random network"
    for row in good:
        assert -1 <= row["r"] <= 1 and row["r2"] <= 1 and -1 <= row["split_half"] <= 1 and 0 < row["p"] <= row["q"] <= 1
        supported = row["noise_ceiling"] is not None and row["noise_ceiling"] >= 0.1
        assert (row["r2_normalised"] is not None) == supported
        if supported:
            assert row["r2_normalised"] == pytest.approx(row["r2"] / row["noise_ceiling"], rel=1e-5)


def test_projections_are_the_one_shot_formula(finished: RunFolder, study: TinyStudy) -> None:
    bank, beta = finished.read("bank"), study.config().project.beta
    raw_KD = matrix(bank["embedding"]).astype(float)
    unit_KD = raw_KD / np.linalg.norm(raw_KD, axis=1, keepdims=True)
    voxels = finished.read("voxels").filter(pc.field("status") == "ok")
    ids = np.array(bank["image_id"].to_pylist())
    for row in finished.read("projections").to_pylist():
        weight = np.array(voxels.filter(pc.field("voxel_id") == row["voxel_id"])["weight"][0].as_py())
        mine = np.ones(BANK, bool) if row["partition"] == WHOLE_BANK else bank["partition"].to_numpy() == row["partition"]
        cosine_K = unit_KD[mine] @ (weight / np.linalg.norm(weight))
        p_K = np.exp(beta * (cosine_K - cosine_K.max()))
        p_K /= p_K.sum()
        direction = p_K @ unit_KD[mine]
        expected = p_K @ bank["norm"].to_numpy()[mine] * direction / np.linalg.norm(direction)
        np.testing.assert_allclose(row["embedding"], expected, rtol=1e-4, atol=1e-6)
        assert row["n_eff"] == pytest.approx(1 / (p_K**2).sum(), rel=1e-4)
        assert row["missing_mass"] == 0
        assert len(row["nearest_ids"]) == len(row["nearest_cos"]) == 8
        assert set(row["nearest_ids"]) <= set(ids[mine])
        np.testing.assert_allclose(row["nearest_cos"], np.sort(cosine_K)[::-1][:8], rtol=1e-5)


def test_run_json_says_what_was_done(finished: RunFolder, study: TinyStudy) -> None:
    document = finished.read_run_json()
    assert document["config"] == study.config().model_dump(mode="json")
    assert document["complete"] is True
    assert document["versions"]["torch"] and document["scuba_ray"]
    steps = document["steps"]
    assert [name.split()[0] for name in steps] == [
        *("read", "prepare", "encode", "fit", "significance", "scan", "admit", "bank", "project", "caption", "report")
    ]
    assert steps["encode subj01/tiny"]["rows"] == STIMULI and steps["encode subj01/tiny"]["chunks"] == 3
    assert (Path(finished.location) / "report" / "index.html").stat().st_size > 1000


# ---------------------------------------------------------------------------------------------- a second run


def test_a_second_run_computes_nothing(finished: RunFolder, study: TinyStudy) -> None:
    before, events = parts(finished), []
    timings = {name: step["seconds"] for name, step in finished.read_run_json()["steps"].items()}
    page = Path(finished.location, "report", "index.html").stat().st_mtime_ns
    run(study.config(), listen=events.append)
    assert events == []
    assert parts(finished) == before
    assert Path(finished.location, "report", "index.html").stat().st_mtime_ns == page
    steps = finished.read_run_json()["steps"]
    assert {name: step["seconds"] for name, step in steps.items()} == timings, "timings stay those of the run that computed"
    assert {step.get("computed_chunks", 0) for step in steps.values()} == {0}


def copy_of(finished: RunFolder, study: TinyStudy, tmp_path: Path, **changes: Any) -> tuple[RunFolder, Any]:
    """The finished run in another folder, with a configuration for it."""
    from shutil import copytree

    out = copytree(finished.location, tmp_path / "copy")
    return RunFolder(str(out)), study.config(out=str(out), **changes)


def test_a_changed_beta_computes_project_and_after_only(finished: RunFolder, study: TinyStudy, tmp_path: Path) -> None:
    folder, config = copy_of(finished, study, tmp_path, project={"chunk": 5, "beta": 5, "nearest": 8})
    before = parts(folder)
    run(config)
    after = parts(folder)
    assert {name.split("/")[0] for name in rewritten(before, after)} == {"projections", "captions"}
    assert len(after) == len(before), "the old generation is gone"


@pytest.mark.parametrize(("step", "table"), [("fit", "fits"), ("prepare", "responses")])
def test_a_changed_chunk_changes_no_value(finished: RunFolder, study: TinyStudy, tmp_path: Path, step: str, table: str) -> None:
    changed = {**study.settings()[step], "chunk": 7}
    folder, config = copy_of(finished, study, tmp_path, **{step: changed})
    before = parts(folder)
    run(config)
    assert {name.split("/")[0] for name in rewritten(before, parts(folder))} == {table}, "nothing depends on how rows are cut"
    assert_equal_tables(finished, folder)


@pytest.mark.parametrize("damage", ["delete", "corrupt", "truncate"])
def test_one_damaged_part_is_the_only_one_computed_again(
    finished: RunFolder, study: TinyStudy, tmp_path: Path, damage: str
) -> None:
    folder, config = copy_of(finished, study, tmp_path)
    for table in ("responses", "embeddings", "fits", "captions"):
        part = sorted(Path(folder.location, table).glob("*.parquet"))[1]
        before = parts(folder)
        data = part.read_bytes()
        if damage == "delete":
            part.unlink()
        else:
            middle = len(data) // 2
            part.write_bytes(data[:middle] + (bytes([data[middle] ^ 255]) + data[middle + 1 :] if damage == "corrupt" else b""))
        run(config)
        assert rewritten(before, parts(folder)) == {str(part.relative_to(folder.location))}
    assert_equal_tables(finished, folder)


# ---------------------------------------------------------------------------------------------- no leak


def test_test_images_and_responses_never_reach_the_weights(finished: RunFolder, own_study: TinyStudy, tmp_path: Path) -> None:
    subject = own_study.folder / "subject"
    write_pictures(subject / "images", TEST, 99, "s")
    trials = pq.read_table(subject / "trials.parquet")
    tested = np.array([int(name[1:]) < TEST for name in trials["stimulus_id"].to_pylist()])
    responses = np.load(subject / "responses.npy")
    responses[tested, :OK] = np.random.default_rng(5).normal(1e3, 1e3, (int(tested.sum()), OK))
    np.save(subject / "responses.npy", responses)
    poisoned = run(own_study.config())
    for column in ("weight", "bias", "alpha", "split_half"):
        one, two = finished.read("voxels")[column], poisoned.read("voxels")[column]
        assert one.equals(two), column
    assert not finished.read("voxels")["r"].equals(poisoned.read("voxels")["r"]), "the poison was there"


# ---------------------------------------------------------------------------------------------- bad input


def test_quarantined_stimuli_take_no_part_and_are_counted(own_study: TinyStudy) -> None:
    for name in ("s0001", "s0030"):
        (own_study.folder / "subject" / "images" / f"{name}.png").write_bytes(b"spoilt")
    folder = run(own_study.config())
    assert folder.read("embeddings").num_rows == STIMULI - 2
    bad = folder.quarantine().to_pylist()
    assert [(row["step"], row["unit"], row["key"]) for row in bad] == [
        ("encode", "subj01/tiny", "stimulus_id=s0001"),
        ("encode", "subj01/tiny", "stimulus_id=s0030"),
    ]
    assert folder.read_run_json()["steps"]["encode subj01/tiny"]["bad_rows"] == 2
    assert folder.read("captions").num_rows == OK * 6


def test_a_changed_bank_replaces_the_one_before(own_study: TinyStudy) -> None:
    folder = run(own_study.config())
    (own_study.folder / "pictures" / "b0004.png").unlink()
    assert run(own_study.config()).read("bank").num_rows == BANK - 1
    assert folder.keys("bank") == ["tiny/images"]


def test_pictures_like_test_images_are_left_out_of_the_runs_bank(own_study: TinyStudy) -> None:
    seen = [f"s{index:04d}.png" for index in (2, TEST + 1)]
    for name in seen:
        (own_study.folder / "pictures" / name).write_bytes((own_study.folder / "subject" / "images" / name).read_bytes())
    folder = run(own_study.config(bank__similar=0.99999))
    assert set(folder.read("bank")["image_id"].to_pylist()) & set(seen) == {seen[1]}, "images of training may be in the bank"
    assert [(row["key"], "test image s0002" in row["reason"]) for row in folder.quarantine().to_pylist()] == [
        (f"image_id={seen[0]}", True)
    ]


def test_a_captioner_of_another_backbone_is_refused_before_anything_starts(own_study: TinyStudy) -> None:
    write_backbone(own_study.folder / "backbone", seed=1)
    with pytest.raises(ConfigError, match="was trained for tiny"):
        run(own_study.config())
    assert not (own_study.folder / "run").exists()


def test_every_backbone_is_fitted_and_the_captioners_own_is_captioned(own_study: TinyStudy) -> None:
    write_backbone(own_study.folder / "other", seed=1)
    backbones = [
        {"name": name, "model": f"local-dir:{own_study.folder / folder}"} for name, folder in (("b", "other"), ("a", "backbone"))
    ]
    folder = run(own_study.config(backbones=backbones))
    assert set(folder.read("voxels")["backbone"].to_pylist()) == {"a", "b"}
    assert {name: set(folder.read(name)["backbone"].to_pylist()) for name in ("bank", "projections", "captions")} == {
        name: {"a"} for name in ("bank", "projections", "captions")
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": [{"name": "s", "path": "/no/such/place"}]}, "no data set at /no/such/place"),
        ({"bank": {"images": "/no/such/place"}}, "no folder of pictures at /no/such/place"),
        ({"bank": {"path": "/no/such/place"}}, "no finished bank at /no/such/place"),
        ({"bank": {"path": "/no/such/place", "similar": 0.9}}, "similar is for building a bank"),
        ({"backbones": ["local-dir:/no/such/place"]}, "no/such/place"),
        ({"caption": {"model": "/no/such/place"}}, "no/such/place"),
        ({"device": "cuda:7"}, "device cuda:7 is not available"),
        ({"device": "tpu"}, "device must be cpu, cuda or cuda:N, got 'tpu'"),
        ({"project": {"scores": "tf32"}}, "project.scores is tf32, an arithmetic of CUDA devices, but device is cpu"),
        ({"engine": {"name": "local", "gpus_per_worker": 1}}, "set device to cuda"),
        ({"engine": {"name": "ray"}, "device": "cuda"}, "gpus_per_worker > 0"),
    ],
)
def test_what_cannot_work_fails_before_anything_starts(
    study: TinyStudy, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(study.config(out=str(tmp_path / "never"), **changes))
    assert not (tmp_path / "never").exists()


def test_a_bank_without_readable_pictures(own_study: TinyStudy) -> None:
    for picture in (own_study.folder / "pictures").iterdir():
        picture.write_bytes(b"")
    with pytest.raises(DataError, match=r"step scan \(images\): not one of the 90 rows .*empty file"):
        run(own_study.config())
    for picture in (own_study.folder / "pictures").iterdir():
        picture.write_bytes(picture.name.encode())
    with pytest.raises(DataError, match=r"step bank \(tiny/images\): not one of the 90 rows .*no known format"):
        run(own_study.config())
    for picture in (own_study.folder / "pictures").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match="no pictures below"):
        run(own_study.config())


def test_another_data_set_in_the_same_folder_is_refused(finished: RunFolder, study: TinyStudy, tmp_path: Path) -> None:
    before = parts(finished)
    other = write_subject(tmp_path / "other", seed=5)
    with pytest.raises(ConfigError, match="holds the run of another data set"):
        run(study.config(subjects=[{"name": "subj01", "path": str(other)}]))
    assert parts(finished) == before


def test_two_drivers_on_one_folder(finished: RunFolder, study: TinyStudy) -> None:
    with finished.lock(), pytest.raises(ConfigError, match=r"(?i)another|held"):
        run(study.config())


# ---------------------------------------------------------------------------------------------- banks of their own


def test_a_bank_built_before_gives_the_same_run(finished: RunFolder, study: TinyStudy, tmp_path: Path) -> None:
    config, events = study.config(), list[Progress]()
    made = {"images": str(study.folder / "pictures"), "backbone": config.backbones[0], "encode": config.encode}
    bank = build_bank(**made, engine=config.engine, out=str(tmp_path / "bank"), listen=events.append)
    assert bank.rows == BANK and events
    events.clear()
    build_bank(**made, engine=config.engine, out=str(tmp_path / "bank"), listen=events.append)
    assert not events, "a second build does nothing"
    folder = run(study.config(out=str(tmp_path / "run"), bank={"path": str(tmp_path / "bank")}))
    assert_equal_tables(finished, folder, ("voxels", "projections", "captions"))
    write_backbone(tmp_path / "other", seed=1)
    other = config.backbones[0].model_copy(update={"name": "other", "model": f"local-dir:{tmp_path / 'other'}"})
    foreign = build_bank(**{**made, "backbone": other}, engine=config.engine, out=str(tmp_path / "foreign"))
    with pytest.raises(ConfigError, match=r"was made with other \(\w{16}\), this run reads tiny"):
        run(study.config(out=str(tmp_path / "run2"), bank={"path": foreign.location}))
