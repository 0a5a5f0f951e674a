"""Commands that compute, on the tiny study: what they write, print, and do when they are given again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner, Result

from scuba_ray.cli import app
from tests.study import BANK, OK, TinyStudy, write_pictures, write_subject


def scuba(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture(scope="module")
def finished(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run made by `scuba run`; its configuration lies beside it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "run.yaml").write_text(yaml.safe_dump(study.settings()))
    done = scuba("run", folder / "run.yaml", "--out", folder / "run", "--engine", "local", "--set", "fit.permutations=20")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{folder}/run/report/index.html\n"
    assert "encode" in done.stderr and "every step is complete" in done.stderr
    return folder / "run"


def test_a_run_writes_what_it_was_told(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert record["config"]["fit"]["permutations"] == 20
    assert record["config"]["engine"]["name"] == "local"
    assert (finished / "report" / "index.html").stat().st_size > 10_000


def test_a_second_run_computes_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}
    again = scuba("run", finished.parent / "run.yaml", "--out", finished, "--engine", "local", "--set", "fit.permutations=20")
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")} == before


def test_show_prints_voxels_as_a_table_json_and_csv(finished: Path) -> None:
    table, records, lines = (scuba("show", finished, "--format", form).stdout for form in ("table", "json", "csv"))
    assert "subject subj01" in table and "caption" in table
    voxels = [row["voxel_id"] for row in json.loads(records)]
    assert len(voxels) >= OK
    assert [int(row["voxel_id"]) for row in csv.DictReader(io.StringIO(lines))] == voxels
    assert len(json.loads(scuba("show", finished, "--format", "json", "--limit", 3).stdout)) == 3


def test_show_chooses_by_region_voxel_and_text(finished: Path) -> None:
    regions = json.loads(scuba("show", finished, "--roi", "faces", "--format", "json").stdout)
    assert regions and all("faces" in row["roi"] for row in regions)
    details = json.loads(scuba("show", finished, "--voxel", 100, "--format", "json").stdout)
    assert {row["item"] for row in details} >= {"voxel_id", "r2"}
    ranked = json.loads(scuba("show", finished, "--query", "a red square", "--format", "json").stdout)
    cosines = [row["cosine"] for row in ranked if row["cosine"] is not None]
    assert cosines == sorted(cosines, reverse=True) and len(cosines) >= OK


@pytest.mark.parametrize("choice", [("--roi", "nowhere"), ("--voxel", "7"), ("--query", " ")])
def test_show_says_what_there_is_instead(finished: Path, choice: tuple[str, str]) -> None:
    done = scuba("show", finished, *choice)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_report_is_written_again(finished: Path) -> None:
    page = finished / "report" / "index.html"
    page.unlink()
    done = scuba("report", finished)
    assert (done.exit_code, done.stdout.strip()) == (0, str(page))
    assert page.exists()


def test_another_data_set_is_refused(finished: Path, study: TinyStudy, tmp_path: Path) -> None:
    other = write_subject(tmp_path / "other", seed=5)
    done = scuba("run", finished.parent / "run.yaml", "--out", finished, "--engine", "local", "--set", f"subjects.0.path={other}")
    assert done.exit_code == 2
    assert "another data set" in done.stderr


def test_a_bank_is_built_once(study: TinyStudy, tmp_path: Path) -> None:
    command = ("bank", "build", "--images", study.folder / "pictures", "--backbone", f"local-dir:{study.folder / 'backbone'}")
    done = scuba(*command, "--out", tmp_path / "bank", "--engine", "local")
    assert done.exit_code == 0, done.stderr
    assert f"the bank of backbone has {BANK} pictures now" in done.stderr
    again = scuba(*command, "--out", tmp_path / "bank", "--engine", "local")
    assert (again.exit_code, again.stdout) == (0, done.stdout)


def test_a_captioner_is_trained_and_read(study: TinyStudy, tmp_path: Path) -> None:
    write_pictures(tmp_path, 20, 3, "p")
    names = sorted(path.name for path in tmp_path.iterdir())
    captions = [f"bands number {index % 4}" for index in range(len(names))]
    pairs = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"image": names, "caption": captions}), pairs)
    backbone = f"local-dir:{study.folder / 'backbone'}"
    done = scuba(
        "captioner",
        "train",
        "--pairs",
        pairs,
        "--backbone",
        backbone,
        "--out",
        tmp_path / "captioner",
        "--steps",
        3,
        "--batch",
        8,
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "captioner")
    about = json.loads((tmp_path / "captioner" / "captioner.json").read_text())
    assert about["backbone"] == "backbone"


def test_a_phantom_is_made_as_files(tmp_path: Path) -> None:
    command = ("phantom", "make", "--out", tmp_path / "p", "--voxels", 80, "--images", 100, "--bank", 20)
    done = scuba(*command)
    assert done.exit_code == 0, done.stderr
    assert {"dataset.json", "truth.parquet", "responses.npy"} <= {path.name for path in (tmp_path / "p").iterdir()}
    assert scuba(*command).exit_code == 0
    assert scuba(*command, "--seed", 1).exit_code == 2
