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
from scuba_ray.tables.progress import Progress
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


def test_what_another_configuration_only_began_is_kept_as_what_it_finished_is(study: TinyStudy, folder: Path) -> None:
    subjects = [{"name": name, "path": str(study.folder / "subject")} for name in ("subj01", "other")]
    both, one = study.config(out=str(folder), subjects=subjects), study.config(out=str(folder))

    def stop(progress: Progress) -> None:
        if (progress.step, progress.key, progress.chunks_done) == ("encode", "other/tiny", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(both, listen=stop)
    run(one)
    begun = {f"embeddings/{path.name}" for path in (folder / "embeddings").glob("other@tiny-*.parquet")}
    before = content(folder)
    told = clean(str(folder))
    assert len(begun) >= 2 and content(folder) == before and {one.why for one in told.found} == {UNNAMED}
    assert begun <= {f"{one.table}/{one.name}" for one in told.found}
    again = list[Progress]()
    whole = run(both, listen=again.append)
    (first,) = [one for one in again if (one.step, one.key) == ("encode", "other/tiny")][:1]
    assert first.resumed == len(begun)
    assert "begun" not in whole.read_run_json() and clean(str(folder)).found == ()
    with pytest.raises(KeyboardInterrupt):
        run(study.config(out=str(folder), subjects=subjects, encode__max_pixels=10**6), listen=stop)
    run(one)
    clean(str(folder), everything=True)
    assert not list(folder.rglob("other*")) and clean(str(folder), everything=True).found == ()


def test_other_runs_copies_and_banks_inside_the_folder_are_left_alone(folder: Path, tmp_path: Path) -> None:
    copytree(folder, tmp_path / "copy")
    litter(tmp_path / "copy")
    for name in ("before", "deep/er", "analyses/mine"):
        copytree(tmp_path / "copy", folder / name)
    (folder / "analyses" / "mine" / ".run.json.0123456789ab.tmp").unlink()  # may as well be of an analysis called so
    copytree(folder / "captions", folder / "captions.old")
    part = next((folder / "captions").glob("*.parquet")).name
    (folder / "captions.old" / part[: -len("000000000000.parquet")]).with_suffix(".txt").write_text("mine")
    (folder / "captions.old" / f"subj01@tiny-00000-{OTHER}.parquet").write_bytes(b"mine")
    (folder / "captions" / "notes.parquet").write_bytes(b"mine")
    before = content(folder)
    assert clean(str(folder), everything=True).found == ()
    assert content(folder) == before


def test_a_killed_clean_leaves_a_run_that_reads_and_resumes(study: TinyStudy, folder: Path) -> None:
    """Killed after each of its deletions in turn: units of another subject, and litter."""
    subjects = [{"name": "other", "path": str(study.folder / "subject")}]
    run(study.config(out=str(folder), subjects=subjects))
    litter(folder)
    script = (
        "import os, sys\nfrom scuba_ray.tables import cleaning, files\nleft, delete = int(sys.argv[2]), files.delete\n"
        "def killed(*place):\n    global left\n    left -= 1\n    delete(*place) if left else os.kill(os.getpid(), 9)\n"
        "files.delete = killed\ncleaning.clean(sys.argv[1], everything=True)"
    )
    for after in (1, 2, 5, 11):
        ended = subprocess.run([sys.executable, "-c", script, str(folder), str(after)], check=False)
        assert ended.returncode == -signal.SIGKILL
        reader = RunFolder(str(folder), verify=True)
        for table in ("captions", "voxels", "embeddings"):
            assert all(reader.read(table, key=key).num_rows for key in reader.keys(table))
        assert "other/tiny" in reader.keys("captions")
    clean(str(folder), everything=True)
    assert not list(folder.rglob("subj01*"))
    progress = list[Progress]()
    run(study.config(out=str(folder), subjects=subjects), listen=progress.append)
    assert progress == []


def test_quarantine_is_spared_while_a_manifest_is_damaged(folder: Path) -> None:
    litter(folder)
    (folder / "voxels" / "_manifest.json").write_text("{")
    clean(str(folder), everything=True)
    assert (folder / f"quarantine/caption-subj01@tiny-00000-{OTHER}.parquet").exists()


def test_of_two_at_once_one_is_refused_or_finds_nothing(folder: Path) -> None:
    litter(folder)
    command = [sys.executable, "-m", "scuba_ray", "clean", str(folder), "--format", "json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [(process.communicate(timeout=120), process.returncode) for process in both]
    done = [json.loads(out)["found"] for (out, _), code in said if code == 0]
    assert sum(map(bool, done)) == 1
    assert all("in use by process" in err and "Traceback" not in err for (_, err), code in said if code != 0)
    assert clean(str(folder)).found == ()


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


@pytest.mark.parametrize("table", ["embeddings", pytest.param("projections", marks=pytest.mark.slow)])
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
