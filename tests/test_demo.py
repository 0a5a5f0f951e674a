"""`scuba demo`, small: it ends with what was planted beside what was said, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scuba_ray.cli import app
from scuba_ray.config import load_config
from scuba_ray.demo import demo_config
from scuba_ray.tables.store import RunFolder

SIZES = ("--voxels", "120", "--images", "300", "--bank", "400")


def demo(out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["demo", "--out", str(out), "--engine", "local", *SIZES, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, demo(out)


def test_it_ends_with_concepts_rates_and_the_report(finished: tuple[Path, Result]) -> None:
    out, done = finished
    assert done.exit_code == 0, done.output
    assert "planted" in done.stdout and "caption" in done.stdout
    for kind in ("single", "double", "broad", "confound", "nuisance", "null"):
        assert kind in done.stdout
    assert done.stdout.rstrip().splitlines()[-1] == f"report: {out}/report/index.html"
    assert (out / "report" / "index.html").is_file()


def test_captions_name_what_was_planted_more_often_than_shuffled_ones(finished: tuple[Path, Result]) -> None:
    rows = RunFolder(str(finished[0])).read("analyses/recovery").to_pylist()
    chance = {
        method: [row["chance"] for row in rows if row["method"] == method and row["voxel_class"] == "single"]
        for method in ("brainscuba", "shuffled-within-roi")
    }
    means = {method: sum(values) / len(values) for method, values in chance.items()}
    assert means["brainscuba"] > means["shuffled-within-roi"] + 0.2


def test_a_second_demo_computes_nothing_and_another_subject_is_refused(finished: tuple[Path, Result]) -> None:
    out, first = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again = demo(out)
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before
    assert demo(out, "--seed", "1").exit_code == 2


def test_the_example_is_what_the_demo_runs() -> None:
    example = load_config(Path(__file__).parents[1] / "examples" / "phantom.yaml")
    assert example == demo_config(example.out, example.subjects[0].path)
