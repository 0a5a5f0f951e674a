"""What a run has no use for is found and deleted; what it uses, or resumes, is never touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import pytest
import yaml
from typer.testing import CliRunner

from scuba_ray.cli import app
from scuba_ray.errors import ConfigError
from scuba_ray.pipeline import run
from scuba_ray.tables import cleaning, files
from scuba_ray.tables.cleaning import MADE_FOR, QUARANTINED, STALE, TEMPORARY, UNNAMED, clean
from scuba_ray.tables.store import RunFolder
from tests.study import TinyStudy, assert_equal_tables

OTHER = "0" * 12
DRIVER = """
import json, sys
from scuba_ray.config import make_config
from scuba_ray.pipeline import run
run(make_config(json.load(sys.stdin)))
"""


@pytest.fixture(scope="module")
def finished(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(run(study.config(out=str(tmp_path_factory.mktemp("clean") / "run"))).location)


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return copytree(finished, tmp_path / "run")


def content(folder: Path) -> dict[str, int]:
    """Everything but the lock and the log."""
    return {name: size for name, size in files.walk(str(folder)).items() if name not in {".lock", "log.jsonl"}}


def litter(folder: Path) -> set[str]:
    """What killed runs of other settings leave."""
    part = next((folder / "captions").glob("*.parquet"))
    made = {
        "captions/" + part.name[: -len("000000000000.parquet")] + f"{OTHER}.parquet",
        f"quarantine/caption-subj01@tiny-00000-{OTHER}.parquet",
        f"analyses/nouns/run-00000-{OTHER}.parquet",
        f"embeddings/.{part.name}.0123456789ab.tmp",
        ".run.json.0123456789ab.tmp",
    }
    for name in made:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"rubbish")
    return made


def test_a_whole_run_has_nothing_to_delete(folder: Path) -> None:
    before = content(folder)
    assert clean(str(folder)) == cleaning.Leftovers((), ())
    assert content(folder) == before


def test_what_other_settings_and_killed_writers_left_is_deleted_and_nothing_else(folder: Path) -> None:
    before, made = content(folder), litter(folder)
    looked = clean(str(folder), dry=True)
    assert {f"{one.table}/{one.name}".lstrip("/"): one.bytes for one in looked.found} == dict.fromkeys(made, 7)
    assert {one.why for one in looked.found} == {STALE, TEMPORARY, QUARANTINED}
    assert set(content(folder)) == {*before, *made}, "it only looked"
    assert clean(str(folder)) == looked
    assert content(folder) == before
    assert clean(str(folder)).found == ()


def test_scratch_goes_when_its_reader_is_finished(folder: Path) -> None:
    before = content(folder)
    unit = RunFolder(str(folder)).begin(step="read", table="sessions", key="subj01", fingerprint="f" * 64)
    (folder / "sessions" / f"subj01-00000-{'f' * 12}.parquet").write_bytes(b"trials")
    assert unit.table == "sessions"
    assert [(one.table, one.why) for one in clean(str(folder)).found] == [("sessions", STALE), ("sessions", MADE_FOR)]
    assert content(folder) == before


def test_units_the_configuration_no_longer_names_are_told_and_kept(study: TinyStudy, folder: Path) -> None:
    subjects = [{"name": "other", "path": str(study.folder / "subject")}]
    run(study.config(out=str(folder), subjects=subjects))
    told = clean(str(folder))
    assert {one.name for one in told.found} == {"subj01", "subj01/tiny"} and {one.why for one in told.found} == {UNNAMED}
    reader = RunFolder(str(folder))
    assert reader.keys("captions") == ["other/tiny", "subj01/tiny"]
    assert clean(str(folder), everything=True) == told
    assert reader.keys("captions") == ["other/tiny"] and reader.keys("bank") == ["tiny/images"]
    assert clean(str(folder), everything=True).found == ()
    before = content(folder)
    run(study.config(out=str(folder), subjects=subjects))
    assert content(folder) == before


def test_a_damaged_manifest_costs_no_part(study: TinyStudy, folder: Path) -> None:
    before = content(folder)
    (folder / "captions" / "_manifest.json").write_text("{")
    (folder / "fits" / "_manifest.json").unlink()
    assert [note.partition(" ")[0] for note in clean(str(folder), everything=True).notes] == ["captions"]
    assert {name for name in before if name.endswith(".parquet")} <= set(content(folder))
    run(study.config(out=str(folder)))
    assert {name: size for name, size in content(folder).items() if name != "run.json"} == {
        name: size for name, size in before.items() if name != "run.json"
    }


def test_what_is_no_run_or_is_at_work_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "photos").mkdir()
    for other in (tmp_path / "photos", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="holds no run"):
            clean(str(other))
    assert not (tmp_path / "nowhere").exists() and not list((tmp_path / "photos").iterdir())
    litter(folder)
    before = content(folder)
    with RunFolder(str(folder)).lock(), pytest.raises(ConfigError, match="in use by process"):
        clean(str(folder))
    assert content(folder) == before


@pytest.mark.parametrize("table", ["embeddings", "projections"])
def test_a_killed_run_is_resumed_as_if_nothing_had_been_cleaned(
    study: TinyStudy, finished: Path, folder: Path, table: str
) -> None:
    """Killed within a step, after other settings made another generation of it; cleaned; and completed."""
    changes = {"encode": {"batch": 16, "chunk": 10, "max_pixels": 10**6}, "project__beta": 30}
    settings = {**study.settings(**changes), "out": str(folder)}
    old = set((folder / table).glob("*.parquet"))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, text=True)
    assert driver.stdin is not None
    driver.stdin.write(json.dumps(settings))
    driver.stdin.close()
    while not set((folder / table).glob("*.parquet")) - old and driver.poll() is None:
        time.sleep(0.002)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    record = json.loads((folder / "run.json").read_text())
    assert "complete" not in record
    before = content(folder)
    left = clean(str(folder), everything=True)
    kept = content(folder)
    gone = {f"{one.table}/{one.name}".lstrip("/") for one in left.found}
    assert set(before) - set(kept) == gone
    assert not [name for name in gone if name.startswith(f"{table}/") and not name.endswith(".tmp")]
    from scuba_ray.config import make_config

    whole = run(make_config({**settings, "out": str(folder.parent / "whole")}))
    assert_equal_tables(whole, run(make_config(settings)))


def test_the_command_says_what_it_deletes(folder: Path) -> None:
    made = litter(folder)
    told = CliRunner().invoke(app, ["clean", str(folder), "--format", "json", "--dry-run"])
    assert told.exit_code == 0
    found = json.loads(told.stdout)["found"]
    assert sum(row["bytes"] for row in found) == 7 * len(made) and not any(row["deleted"] for row in found)
    done = CliRunner().invoke(app, ["clean", str(folder)])
    assert done.exit_code == 0 and "captions" in done.stdout and f"{7 * len(made)} bytes were deleted" in done.stderr
    assert "nothing to delete" in CliRunner().invoke(app, ["clean", str(folder)]).stderr
    (folder.parent / "config.yaml").write_text(yaml.safe_dump({}))
    assert CliRunner().invoke(app, ["clean", str(folder.parent)]).exit_code == 2
