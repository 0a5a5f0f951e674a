"""What `--dry-run` counts is what a run then does; it computes and writes nothing, and finds what is there."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from scuba_ray.cli import app
from scuba_ray.data_check import check
from scuba_ray.errors import ConfigError
from scuba_ray.pipeline import run
from scuba_ray.planning import Plan, plan
from scuba_ray.stages import rates
from scuba_ray.tables import files, manifest
from scuba_ray.tables.progress import AtMost
from scuba_ray.tables.store import RunFolder
from tests.study import OK, STIMULI, TinyStudy

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FACTOR = 3
"""How far bytes may be off."""


@pytest.fixture(scope="module")
def planned(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, RunFolder]:
    """A plan, and the run that was made after it."""
    config = study.config(out=str(tmp_path_factory.mktemp("plan") / "run"), analyses=["support"])
    first = plan(config)
    assert not Path(config.out).exists(), "nothing was written"
    return first, run(config)


@pytest.fixture
def copied(planned: tuple[Plan, RunFolder], study: TinyStudy, tmp_path: Path) -> dict[str, Any]:
    """Settings of a copy of the run."""
    return {**study.settings(analyses=["support"]), "out": str(copytree(planned[1].location, tmp_path / "run"))}


def made(settings: dict[str, Any]) -> Plan:
    from scuba_ray.config import make_config

    return plan(make_config(settings))


def test_what_is_counted_is_what_the_run_does(planned: tuple[Plan, RunFolder]) -> None:
    first, folder = planned
    taken = {name: step for name, step in folder.read_run_json()["steps"].items() if "rows_in" in step}
    assert [f"{one.planned.step} {one.planned.key}" for one in first.steps] == list(taken)
    for one in first.steps:
        real, step = taken[f"{one.planned.step} {one.planned.key}"], one.planned
        assert one.to_do == step.chunks and step.there == 0
        if isinstance(step.rows, AtMost):
            assert step.rows >= real["rows_in"] and step.chunks >= real["chunks"]
        else:
            assert (step.rows, step.chunks) == (real["rows_in"], real["chunks"]), step.step
    bounded = {one.planned.step: one.planned.rows for one in first.steps if isinstance(one.planned.rows, AtMost)}
    assert set(bounded) == {"admit", "bank", "describe", "caption"} & set(bounded) and bounded["caption"] == (OK + 2) * 6


def test_bytes_are_good_to_the_factor_stated(planned: tuple[Plan, RunFolder]) -> None:
    first, folder = planned
    for one in first.steps:
        units = manifest.load(folder.location, one.planned.table)
        if one.planned.key in units and one.bytes is not None:
            real = units[one.planned.key].bytes
            assert real / FACTOR < one.bytes < real * FACTOR, (one.planned.table, real, one.bytes)


def test_a_complete_run_has_nothing_to_do(copied: dict[str, Any]) -> None:
    before = files.walk(copied["out"])
    again = made(copied)
    assert again.complete and again.unmeasured == []
    assert again.totals(1.0, 1.0)["cost"] == 0
    assert files.walk(copied["out"]) == before


def test_what_is_left_of_a_run_is_counted_and_what_depends_on_it_is_not_known(copied: dict[str, Any]) -> None:
    for table, places in (("embeddings", [1]), ("projections", [0, 2])):
        parts = sorted(Path(copied["out"], table).glob("*.parquet"))
        for place in places:
            parts[place].unlink()
    found = {one.planned.step: one for one in made(copied).steps}
    assert {step: one.to_do for step, one in found.items() if one.to_do != 0} == {"encode": 1, "project": 2, "caption": None}
    assert found["caption"].planned.until == "project"
    assert found["fit"].planned.there == 3, "its rows are known, and its name does not depend on what is there"


def test_a_changed_setting_is_seen(copied: dict[str, Any]) -> None:
    changed = made({**copied, "project": {**copied["project"], "beta": 30}})
    assert [one.planned.step for one in changed.steps if one.to_do != 0] == ["project", "nearest", "caption", "support"]


def test_another_data_set_is_refused_as_a_run_refuses_it(own_study: TinyStudy, copied: dict[str, Any]) -> None:
    (own_study.folder / "subject" / "stimuli.parquet").unlink()
    with pytest.raises(Exception, match="stimuli"):
        made({**copied, "subjects": [{"name": "subj01", "path": str(own_study.folder / "subject")}]})
    claim = Path(copied["out"], "claim.json")
    claim.write_text(json.dumps({"subj01": "f" * 64}))
    with pytest.raises(ConfigError, match="holds the run of another data set"):
        made(copied)


def test_the_command_prints_steps_totals_and_cost(study: TinyStudy, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(study.settings(out=str(tmp_path / "run"))))
    command = ["run", str(tmp_path / "run.yaml"), "--dry-run", "--price-cpu-hour", "1e6"]
    told = CliRunner().invoke(app, [*command, "--format", "json"])
    assert told.exit_code == 0, told.stderr
    said = json.loads(told.stdout)
    assert said["complete"] is False
    assert {row["step"]: row["rows"] for row in said["steps"]}["encode"] == STIMULI
    assert said["totals"]["cost"] == pytest.approx(1e6 * said["totals"]["cpu_hours"]) and said["totals"]["cpu_hours"] > 0
    shown = CliRunner().invoke(app, command)
    assert "encode" in shown.stdout and "chunks are to be computed" in shown.stderr and "yours will differ" in shown.stderr
    assert not (tmp_path / "run").exists()


def test_what_only_a_run_can_know_is_told_as_a_bound_or_as_unknown(study: TinyStudy, tmp_path: Path) -> None:
    settings = study.settings(out=str(tmp_path / "run"), analyses=["support"])
    settings |= {"synthesize": {"diffusion": {"model": "phantom:diffusion"}, "targets": ["rois"], "budget": 20, "chunk": 6}}
    first = {one.planned.step: one.planned for one in made(settings).steps}
    assert {step: (one.rows, one.chunks, one.until) for step, one in first.items() if one.stage is None} == {
        "synthesize": (20, 4, "requests"),
        "judge": (20, 3, "requests"),
        "support": (1, 1, "projections"),
    }
    assert isinstance(first["requests"].written, AtMost) and first["support"].written is None
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    told = CliRunner().invoke(app, ["run", str(tmp_path / "run.yaml"), "--dry-run", "--format", "json"])
    rows = {row["step"]: row for row in json.loads(told.stdout)["steps"]}
    assert (rows["requests"]["rows_written"], rows["requests"]["rows_written_are_a_bound"]) == (20, True)
    assert (rows["support"]["rows_written"], rows["judge"]["there"]) == (None, None)


def test_the_data_check_has_the_same_hours(study: TinyStudy, tmp_path: Path) -> None:
    config = study.config(out=str(tmp_path / "never run"))
    seconds = check(config).estimates["seconds"]
    hours = {one.planned.step: one.cpu_hours or 0.0 for one in plan(config).steps}
    for step in ("fit", "project", "caption"):
        assert seconds[step]["seconds"] == pytest.approx(3600 * hours[step] / config.engine.threads), step


def test_rates_are_those_of_the_benchmarks() -> None:
    def read(name: str) -> Any:
        return json.loads((BENCHMARKS / name).read_text())

    gpu, captions, fit = read("gpu/rates.json"), read("results/captions.json"), read("results/permutations.json")
    session, search, bank = (read(f"results/{name}.json") for name in ("nsd_session", "projection_million", "bank_build"))
    size, projected = fit["config"], search["config"]
    cores = size["threads"] * (fit["seconds"]["fit"]["median"] + fit["seconds"]["permutations"]["median"])
    expected = {
        "read": session["config"]["trials"] / session["seconds"]["prepare"]["median"],
        "fit": size["voxels"] * size["images"] * size["dim"] / cores,
        "project": projected["voxels"] * projected["images"] * projected["dim"] / search["cpu_seconds"]["ours"][0],
        "caption": captions["gpt2_small"]["captions_per_second"]["ours"] / captions["config"]["threads"],
        "caption phantom": captions["phantom_captioner"]["captions_per_second"]["ours"] / captions["config"]["threads"],
        "encode phantom": bank["pictures_per_second"]["local"][0] / bank["config"]["threads"],
    }
    assert {name: rate.per_second for name, rate in rates.CPU.items()} == pytest.approx(expected, rel=1e-4)
    ridge, project = gpu["ridge"], gpu["projection"]
    expected = {
        "fit": ridge["voxels"] * ridge["stimuli"] * ridge["dim"] / ridge["seconds"],
        "project": project["voxels"] * project["images"] * project["dim"] / project["float32"]["seconds"],
        "caption": gpu["captions"]["GPT-2 small batch 1024 captions/s"],
        "caption phantom": gpu["captions"]["phantom captioner batch 1024 captions/s"],
        "encode": gpu["encode"]["ViT-B-32-quickgelu bf16 images/s"],
        "encode phantom": gpu["encode"]["phantom clip bf16 images/s"],
    }
    assert {name: rate.per_second for name, rate in rates.CUDA.items()} == pytest.approx(expected, rel=1e-4)
