"""`scuba analyze` and `analyses: all`: what is completed, what is left alone, and what run.json, plan and resuming say of it."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from scuba_ray.analyses.nouns import Nouns
from scuba_ray.cli import app
from scuba_ray.config import EngineConfig
from scuba_ray.errors import DataError
from scuba_ray.pipeline import run
from scuba_ray.planning import plan
from scuba_ray.records import steps_in
from scuba_ray.registry import SEAMS
from scuba_ray.tables.progress import Result as Made
from scuba_ray.tables.store import RunFolder
from tests.study import TinyStudy

CAPTIONS = ["beyond_nouns", "clusters", "embedding_map", "nouns", "person", "selectivity", "support"]
"""Analyses that a run of one subject and one backbone, without truth, scores and images, can have."""


def scuba(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def tables(folder: Path) -> dict[Path, int]:
    """Every part but those of analyses, with when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*.parquet")}


def analyses(folder: Path) -> set[str]:
    return {path.name for path in (folder / "analyses").iterdir() if list(path.glob("*.parquet"))}


@pytest.fixture(scope="module")
def finished(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analyzed") / "run"
    run(study.config(out=str(folder), analyses=["person"]))
    return folder


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_named_analyses_are_added_and_nothing_else_is_computed(own: Path, study: TinyStudy) -> None:
    before = tables(own)
    done = scuba("analyze", own, "nouns")
    assert (done.exit_code, done.stdout) == (0, f"{own}/report/index.html\n"), done.stderr
    assert tables(own) == before and analyses(own) == {"person", "nouns"}
    assert (own / "analyses" / "nouns" / "_figure.png").exists() and '{"name":"nouns","png"' in (
        own / "report" / "index.html"
    ).read_text()
    said = record(own)
    assert said["complete"] and said["config"]["analyses"] == ["person", "nouns"] and "encode subj01/tiny" in said["steps"]
    config = study.config(out=str(own), analyses=["person", "nouns"])
    assert plan(config).complete, "a run with these settings has nothing to do"
    page = (own / "report" / "index.html").stat().st_mtime_ns
    run(config)
    assert (own / "report" / "index.html").stat().st_mtime_ns == page


def test_all_is_what_the_tables_allow_and_says_the_rest(own: Path) -> None:
    done = scuba("analyze", own)
    assert done.exit_code == 0, done.stderr
    assert analyses(own) == {*CAPTIONS} - {"clusters", "support"}, "nobody looked for nearest pictures"
    said = record(own)
    assert set(said["config"]["analyses"]) == analyses(own)
    left_out = {text.split()[1] for text in said["warnings"] if " is left out: " in text}
    assert left_out == set(SEAMS["analysis"]) - analyses(own)
    assert "clusters is left out: it reads the table nearest_pictures, which this run does not have" in " ".join(
        done.stderr.split()
    )
    again = scuba("analyze", own, "all")
    assert again.exit_code == 0 and record(own)["warnings"] == said["warnings"]


def test_settings_of_analyses_change_them_and_no_others(own: Path) -> None:
    name = next(part.name for part in (own / "analyses" / "person").glob("*.parquet"))
    done = scuba("analyze", own, "nouns", "--set", "person.also=[dog]")
    assert done.exit_code == 0 and record(own)["config"]["person"]["also"] == ["dog"]
    assert not (own / "analyses" / "person" / name).exists(), "the one that was there depends on it"
    for wrong, words in (
        ("project.beta=3", "computes analyses alone"),
        ("backbones.0.name=x", "computes analyses alone"),
        ("nouns.agreeing=9", "nouns.agreeing must be <= 5"),
    ):
        refused = scuba("analyze", own, "--set", wrong)
        assert refused.exit_code == 2 and words in " ".join(refused.stderr.split()), refused.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("recovery", "recovery needs a phantom"),
        ("clusters", "reads the table nearest_pictures"),
        ("nowns", "must be one of all, agreement"),
    ],
)
def test_what_is_named_and_cannot_be_is_refused(own: Path, name: str, words: str) -> None:
    before = record(own)
    done = scuba("analyze", own, name)
    assert (done.exit_code, done.stdout) == (2, "") and words in " ".join(done.stderr.split()), done.stderr
    assert record(own) == before


def test_one_that_fails_leaves_the_settings_and_can_be_called_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise DataError("it cannot be")

    with monkeypatch.context() as patch:
        patch.setattr(Nouns, "run", fails)
        assert scuba("analyze", own, "nouns", "--set", "person.also=[dog]").exit_code == 1
    said = record(own)
    assert "complete" not in said and (said["config"]["analyses"], said["config"]["person"]["also"]) == (["person"], [])
    assert scuba("analyze", own, "selectivity").exit_code == 0
    said = record(own)
    assert said["complete"] and "analyzing" not in said and said["config"]["analyses"] == ["person", "selectivity"]


def test_the_page_is_known_whatever_the_order_of_what_it_shows(tmp_path: Path) -> None:
    results = [Made("a", "run", "1", 1, 1), Made("b", "run", "2", 1, 1)]
    folder, made = RunFolder(str(tmp_path)), list[str]()

    def written() -> str:
        made.append(folder.write_file("page.html", b""))
        return made[-1]

    for order in (results, results[::-1]):
        with steps_in(folder, EngineConfig(), {}, None) as steps:
            steps.results += order
            steps.once("report", [], written)
    assert len(made) == 1, "a run with parts completes clusters first, `scuba analyze` last"


def test_a_run_that_is_not_complete_is_not_analyzed(own: Path, tmp_path: Path) -> None:
    (own / "run.json").write_text(json.dumps({**record(own), "complete": False}))
    done = scuba("analyze", own)
    assert done.exit_code == 1 and "is not complete" in done.stderr and "scuba run" in done.stderr
    assert scuba("analyze", tmp_path / "nowhere").exit_code == 2


def test_a_run_of_all_names_what_it_took(own_study: TinyStudy, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(own_study.settings()))
    how = ("run", tmp_path / "run.yaml", "--set", "analyses=all")
    done = scuba(*how)
    folder = own_study.folder / "run"
    assert done.exit_code == 0, done.stderr
    said = record(folder)
    assert analyses(folder) == set(CAPTIONS) == set(said["config"]["analyses"])
    assert "analysis agreement is left out: it compares subjects, and subj01 is the only one" in said["warnings"]
    assert "agreement is left out" in done.stderr
    planned = json.loads(scuba(*how, "--dry-run", "--format", "json").stdout)
    assert planned["complete"] and set(CAPTIONS) <= {step["step"] for step in planned["steps"]}
    assert json.loads(scuba("clean", folder, "--dry-run", "--format", "json").stdout)["found"] == []
    fewer = scuba("analyze", folder, "--set", "support.pictures=1", "--set", "clusters.pictures=1")
    assert fewer.exit_code == 2 and "finds 1 nearest pictures" in " ".join(fewer.stderr.split()), "a run would find them anew"
    assert record(folder) == said
