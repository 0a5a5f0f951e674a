"""scuba data check: what a good data set holds, and everything that is wrong with a bad one at once."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from scuba_ray.cli import app
from scuba_ray.config import make_config
from scuba_ray.data_check import DataCheck, check
from scuba_ray.datasets.inspection import remarks_on
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.stages.study import open_study
from tests.datasets import lab_files as lab
from tests.datasets.algonauts_files import Planted as Algonauts
from tests.datasets.algonauts_files import small_algonauts
from tests.datasets.conftest import png
from tests.datasets.laion_fmri_files import Planted as Laion
from tests.datasets.laion_fmri_files import small_laion
from tests.datasets.nsd_files import DONE, small_nsd
from tests.datasets.stores import stored
from tests.study import STIMULI, TEST, TinyStudy


def said(found: DataCheck, state: str, where: str) -> str:
    return "\n".join(remark.text for remark in found.remarks if (remark.state, remark.where) == (state, where))


def test_what_a_good_data_set_holds(study: TinyStudy, tmp_path: Path) -> None:
    subjects = [
        {"name": "subj01", "path": str(study.folder / "subject")},
        {"name": "S1", "dataset": "nsd", "path": str(small_nsd(tmp_path).root)},
    ]
    subjects[1]["options"] = {"nsd_subject": "subj01", "sessions_done": DONE}  # type: ignore[assignment]
    found = check(study.config(subjects=subjects))
    assert not found.problems
    facts = found.subjects["subj01"]
    wanted = {"sessions": 2, "trials": 120, "images": STIMULI, "test images": TEST, "voxels": 12, "images by repeats": {"2": 60}}
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["voxels by region"] == {"faces": 4, "food": 4, "places": 4} and facts["noise ceilings"] == "from repeats"
    assert facts["drawn on"] == "fsaverage5" and facts["test set"] == "the column split"
    nsd = found.subjects["S1"]
    assert nsd["test set"] == "common-to-all" and nsd["noise ceilings"] == "from ncsnr" and nsd["sessions"] == 4
    assert "do not vary" in said(found, "warning", "subj01") and "trials are missing" in said(found, "warning", "subj01")
    assert found.parts["bank"]["files"] == 90 and found.parts["captioner"]["reads"] == "tiny"
    open_study(study.config(subjects=subjects))  # what has no problem opens


def test_estimates_follow_their_formulas(study: TinyStudy) -> None:
    found = check(study.config())
    memory, disk = found.estimates["memory"], found.estimates["disk"]
    assert memory["read"] == 6 * 60 * 12 * 4 and memory["average"] == 120 * (8 * 5 + 3000) + 12 * 60 * 5
    assert disk["responses"] == 60 * 12 * 4 and disk["sessions (scratch)"] == 120 * 12 * 4
    dim = found.parts["backbone tiny"]["length"]
    assert disk["bank"] == 90 * dim * 2 and disk["embeddings"] == 60 * dim * 2
    assert set(found.estimates["seconds"]) == {"read sessions", "read and decode pictures", "fit", "project", "caption"}


def test_every_problem_is_told_at_once(own_study: TinyStudy, tmp_path: Path) -> None:
    folder = own_study.folder
    copies = {name: copytree(folder / "subject", tmp_path / name) for name in ("cut", "short", "whole")}
    data = (copies["cut"] / "responses.npy").read_bytes()
    (copies["cut"] / "responses.npy").write_bytes(data[:-100])
    (copies["cut"] / "images").rename(copies["cut"] / "pictures")
    np.save(copies["short"] / "responses.npy", np.load(copies["short"] / "responses.npy")[:-3])
    whole = np.nan_to_num(np.load(copies["whole"] / "responses.npy"), posinf=0)
    np.save(copies["whole"] / "responses.npy", np.round(whole * 300))
    (copies["whole"] / "images/s0007.png").unlink()
    (copies["whole"] / "images/s0011.png").write_bytes(b"no picture")
    options = {**lab.write_lab(tmp_path / "lab", "NIfTI, a file per session"), "ncsnr": "none.nii.gz"}
    (tmp_path / "lab/ses-02.nii.gz").write_bytes((tmp_path / "lab/ses-02.nii.gz").read_bytes()[:-200])
    subjects: list[dict[str, Any]] = [{"name": name, "path": str(path)} for name, path in copies.items()]
    subjects.append({"name": "lab", "dataset": "files", "path": str(tmp_path / "lab"), "options": options})
    subjects.append({"name": "gone", "path": str(tmp_path / "gone")})
    found = check(
        own_study.config(subjects=subjects, bank__images=str(tmp_path / "none"), caption__model=str(tmp_path / "no-captioner"))
    )
    assert "responses.npy is not a readable .npy array, or not whole" in said(found, "problem", "cut")
    assert "images/ is missing in" in said(found, "problem", "cut")
    assert "responses.npy has 117 rows, but trials.parquet has 120" in said(found, "problem", "short")
    assert "ses-02.nii.gz is truncated or damaged" in said(found, "problem", "lab")
    assert "no data set at" in said(found, "problem", "gone")
    assert "no folder of pictures at" in said(found, "problem", "bank") and said(found, "problem", "captioner")
    warnings = said(found, "warning", "whole")
    assert "like int16 betas that were not divided" in warnings
    assert "2 of " in warnings and "s0007.png" in warnings and "s0011.png: not a readable picture" in warnings
    assert list(found.subjects) == ["whole"] and not said(found, "problem", "whole")


def test_a_picture_that_is_gone_is_found_among_many(own_study: TinyStudy) -> None:
    """The sample is 48 of 60: those that a folder's listing lacks are looked at besides."""
    for index in range(1, 60, 7):
        (own_study.folder / f"subject/images/s{index:04d}.png").unlink()
    assert "9 of " in said(check(own_study.config()), "warning", "subj01")
    for path in (own_study.folder / "subject/images").iterdir():
        path.unlink()
    assert "48 of 48 pictures looked at cannot be read" in said(check(own_study.config()), "problem", "subj01")


def published(tmp_path: Path, laion: Laion, algonauts: Algonauts) -> list[dict[str, Any]]:
    """Two subjects of published layouts; LAION-fMRI's pictures become pictures."""
    with h5py.File(laion.stimuli("stimuli.h5"), "r+") as file:
        for row in range(len(file["images"])):
            file["images"][row] = np.frombuffer(png((row, 0, 0)), np.uint8)
    return [
        {"name": "sub-01", "dataset": "laion_fmri", "path": str(laion.root)},
        {"name": "subj01", "dataset": "algonauts2023", "path": str(algonauts.root)},
    ]


def test_what_published_layouts_hold(study: TinyStudy, tmp_path: Path) -> None:
    subjects = published(tmp_path, small_laion(tmp_path / "laion"), small_algonauts(tmp_path / "algonauts"))
    found = check(study.config(subjects=subjects))
    assert not found.problems
    laion, algonauts = found.subjects["sub-01"], found.subjects["subj01"]
    wanted = {
        "sessions": 3,
        "trials": 120,
        "images": 30,
        "voxels": 45,
        "images by repeats": {"4": 30},
        "images with captions": 30,
    }
    assert {name: laion[name] for name in wanted} == wanted and laion["noise ceilings"] == "from ncsnr"
    assert laion["images with captions"] == 30
    assert laion["voxels by region"]["FFA1"] == 8 and laion["picture sizes"] == {"8 x 6": 48 - 18}
    wanted = {"sessions": 1, "trials": 60, "images": 60, "voxels": 41, "images by repeats": {"1": 60}, "drawn on": "fsaverage5"}
    assert {name: algonauts[name] for name in wanted} == wanted
    assert algonauts["noise ceilings"] == "unknown: nothing was shown twice"
    assert "60 training images here, 9841 in the challenge" in said(found, "note", "subj01")
    assert set(found.estimates["disk"]) >= {"responses", "embeddings"}


def test_every_problem_of_published_layouts_is_told_at_once(study: TinyStudy, tmp_path: Path) -> None:
    laion, algonauts = small_laion(tmp_path / "laion"), small_algonauts(tmp_path / "algonauts")
    subjects = published(tmp_path, laion, algonauts)
    laion.betas(2).write_bytes(laion.betas(2).read_bytes()[:-300])
    laion.trials(3).unlink()
    table = laion.stimuli("metadata.csv")
    table.write_text(table.read_text() + "one_more.jpg,,,,\n")
    laion.region("face", "FFA-1").write_bytes(b"no volume")
    laion.region("body", "EBA").write_bytes(laion.region("body", "EBA").read_bytes()[:90])
    lines = said(check(study.config(subjects=subjects)), "problem", "sub-01").splitlines()
    assert len(lines) == 5, lines
    for words in (
        "ses-02_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz is truncated or damaged",
        "ses-03_task-images_desc-SingletrialBetas_trials.tsv is missing",
        "task-images_metadata.csv has 32 rows, but the HDF5 file beside it has 31 pictures",
        "label-FFA-1_mask.nii.gz is no readable NIfTI or MGH file",
        "label-EBA_mask.nii.gz is no readable NIfTI or MGH file",
    ):
        assert any(words in line for line in lines), words
    assert len(lines) == 5

    for hemi in ("lh", "rh"):
        data = algonauts.fmri(hemi).read_bytes()
        algonauts.fmri(hemi).write_bytes(data[: len(data) - 4])
    np.save(algonauts.roi("rh.floc-words_challenge_space"), np.zeros(99, np.int64))
    np.save(algonauts.roi("mapping_floc-faces"), {0: "Unknown", 1: "OFA"})  # type: ignore[arg-type]
    subjects[1]["options"] = {"mask": "all - none.npy"}
    lines = said(check(study.config(subjects=subjects[1:])), "problem", "subj01").splitlines()
    for words in (
        "lh_training_fmri.npy is not a readable .npy array, or not whole",
        "rh_training_fmri.npy is not a readable .npy array, or not whole",
        "none.npy is missing in",
        "rh.floc-words_challenge_space.npy has shape (99,)",
        "lh.floc-faces_challenge_space.npy has a label 2 that mapping_floc-faces.npy does not name",
    ):
        assert any(words in line for line in lines), words
    assert len(lines) == 5


def test_a_data_set_on_a_store_is_checked_where_it_lies(study: TinyStudy, tmp_path: Path) -> None:
    near = small_nsd(tmp_path / "nsd")
    options = {"nsd_subject": "subj01", "sessions_done": DONE}
    with stored(near.root) as uri:
        subjects: list[dict[str, Any]] = [{"name": "S1", "dataset": "nsd", "path": uri, "options": options}]
        found = check(study.config(subjects=subjects))
        assert not found.problems and found.subjects["S1"]["sessions"] == 4
        here = check(study.config(subjects=[{**subjects[0], "path": str(near.root)}]))
        assert {**found.subjects["S1"], "path": str(near.root)} == here.subjects["S1"]
    for session in (2, 4):
        path = near.betas / f"betas_session{session:02d}.nii.gz"
        path.write_bytes(path.read_bytes()[:-100])
    with stored(near.root) as uri:
        subjects[0]["path"] = uri
        lines = said(check(study.config(subjects=subjects)), "problem", "S1").splitlines()
        assert (
            len(lines) == 2 and lines[0].startswith(f"{uri}/nsddata_betas") and "betas_session04.nii.gz is truncated" in lines[1]
        )
        subjects[0]["path"] = f"{uri}/none"
        assert "it has no folder nsddata" in said(check(study.config(subjects=subjects)), "problem", "S1")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"device": "cuda:7"}, "device"),
        ({"project__scores": "tf32"}, "project.scores"),
        ({"project__method": "index"}, "project.method"),
        ({"bank": {"path": "no-bank"}}, "bank"),
        ({"backbones": [{"name": "tiny", "model": "local-dir:no-model"}]}, "backbone tiny"),
        ({"backbones": [{"name": "tiny", "model": "open_clip:RN50/no-such-weights"}]}, "backbone tiny"),
        ({"analyses": ["no.such:Analysis"]}, "analysis no.such:Analysis"),
        ({"fit__bands": ["caption"]}, "subj01"),
    ],
)
def test_what_keeps_a_run_from_starting_is_a_problem(study: TinyStudy, change: dict[str, Any], where: str) -> None:
    config = make_config(study.settings(**change))
    assert [remark.where for remark in check(config).problems] == [where] or where == "backbone tiny"
    assert said(check(config), "problem", where)
    with pytest.raises(Exception, match=r"\w"):
        open_study(config)


def test_numbers_that_want_a_look() -> None:
    rng = np.random.default_rng(0)
    percent_TV = rng.normal(0.3, 1.7, (400, 20))
    assert remarks_on(percent_TV, 1) == []
    (whole,) = remarks_on(np.round(percent_TV * 300), 1)
    assert whole[0] == "warning" and "not divided" in whole[1]
    assert "is a scale missing" in remarks_on(percent_TV * 300, 1)[0][1]
    standard_TV = (percent_TV - percent_TV.mean(0)) / percent_TV.std(0)
    assert "z-scored" in remarks_on(standard_TV, 1)[0][1]
    assert remarks_on(np.full((5, 3), np.nan), 2) == [("problem", "session 2: all 15 values looked at are missing")]


def test_the_command_prints_and_exits(own_study: TinyStudy, tmp_path: Path) -> None:
    settings = own_study.settings()
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    good = CliRunner().invoke(app, ["data", "check", str(config)])
    assert good.exit_code == 0, good.output
    assert "test images" in good.stdout and "estimate: memory of a worker" in good.stdout and "nothing prevents" in good.stderr
    bad = CliRunner().invoke(app, ["data", "check", str(config), "--set", "bank.images=nowhere", "--format", "json"])
    assert bad.exit_code == 2
    read = json.loads(bad.stdout)
    assert read["runs"] is False and [one["where"] for one in read["remarks"] if one["state"] == "problem"] == ["bank"]
    assert "problem: bank: no folder of pictures" in bad.stderr and "1 problems: the run would fail" in bad.stderr
    assert not (own_study.folder / "run").exists(), "nothing is written"


def test_a_checkpoint_that_cannot_be_had_does_not_hide_the_rest(study: TinyStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(backbone: OpenClipBackbone) -> str:
        raise ConfigError(f"{backbone.name}: its checkpoint is not on this machine")

    monkeypatch.setattr(OpenClipBackbone, "fingerprint", property(refuse))
    found = check(study.config(bank__images="nowhere"))
    assert "its checkpoint is not on this machine" in said(found, "problem", "backbone tiny")
    assert said(found, "problem", "bank") and found.subjects["subj01"]["voxels"] == 12
