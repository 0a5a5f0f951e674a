"""The application's builder: what it accepts as arguments, what it refuses in words, and what it binds. No Ray is started."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from ray import cloudpickle
from ray.serve import Application
from ray.serve.scripts import build

from scuba_ray.config import RunConfig, serve_config
from scuba_ray.errors import ConfigError
from scuba_ray.serve.app import app_builder, open_run
from scuba_ray.serve.ingress import layers
from scuba_ray.tables.store import RunFolder

Finished = tuple[RunFolder, RunConfig]


@pytest.fixture
def own_run(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may spoil."""
    return Path(copytree(finished[0].location, tmp_path / "run"))


def change(run: Path, **changes: Any) -> None:
    """Change what `run.json` says."""
    record = json.loads((run / "run.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = record
        for parent in parents:
            here = here[parent]
        here[last] = value
    (run / "run.json").write_text(json.dumps(record))


def test_a_finished_run_is_bound_with_arguments_from_yaml(finished: Finished) -> None:
    text = f"{{run: {finished[0].location}, captioner: {{max_replicas: 4}}, limits: {{items: 10}}}}"
    assert isinstance(app_builder(yaml.safe_load(text)), Application)


def test_a_setting_of_a_deployment_changes_that_one_alone() -> None:
    plain = serve_config({"run": "x"})
    changed = serve_config({"run": "x", "captioner": {"max_replicas": 4}, "synthesis": {"cpus": 1}, "ingress": {"queued": 2}})
    assert changed.captioner == plain.captioner.model_copy(update={"max_replicas": 4})
    assert changed.synthesis == plain.synthesis.model_copy(update={"cpus": 1.0})
    assert changed.ingress == plain.ingress.model_copy(update={"queued": 2})


def test_rays_serve_build_takes_a_module_with_the_application(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))  # taken away again; `serve build` leaves it
    code = f"from scuba_ray.serve.app import app_builder\napplication = app_builder({{'run': {finished[0].location!r}}})\n"
    (tmp_path / "built_for_a_lab.py").write_text(code)
    file = tmp_path / "built.yaml"
    made = CliRunner().invoke(build, ["built_for_a_lab:application", "--app-dir", str(tmp_path), "-o", str(file)])
    assert made.exit_code == 0, made.output
    (application,) = yaml.safe_load(file.read_text())["applications"]
    found = {one["name"]: one for one in application["deployments"]}
    assert set(found) == {"Ingress", "Subjects", "Encoder", "Projector", "Captioner", "NearestImages"}
    assert found["Captioner"]["max_ongoing_requests"] == serve_config({"run": "x"}).captioner.ongoing


def test_what_stands_before_the_endpoints_travels(finished: Finished) -> None:
    before = layers(serve_config({"run": finished[0].location, "origins": ["https://lab.example"]}))
    travelled = cloudpickle.loads(cloudpickle.dumps(before))
    assert [one.cls for one in travelled] == [one.cls for one in before]
    assert len(travelled) == 3


def test_relative_places_are_made_absolute(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(finished[0].location)
    monkeypatch.chdir(run.parent)
    settings, config = open_run({"run": run.name, "root": "pictures"})
    assert settings.run == str(run)
    assert settings.root == str(run.parent / "pictures")
    assert config == finished[1].model_copy(update={"out": config.out})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ["run: required"]),
        ({"captioner": {"ongoing": 3}}, ["captioner", "ongoing (3)", "twice batch"]),
        ({"captioner": {"replicas": 3}}, ["captioner.replicas: no such setting", "max_replicas"]),
        ({"limits": {"items": 0}}, ["limits.items must be >= 1, got 0"]),
        ({"device": "gpu"}, ["device must be cpu, cuda or cuda:N, got 'gpu'"]),
        ({"device": "cuda"}, ["encoder computes on cuda and reserves no GPU"]),
        ({"encoder": {"gpus": 1}}, ["encoder.gpus is 1 but device is cpu"]),
    ],
)
def test_wrong_arguments_are_told_with_their_paths(finished: Finished, args: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        app_builder({"run": finished[0].location, **args} if args else {})
    for word in words:
        assert word in str(error.value)


def test_a_run_that_cannot_be_served_is_refused(own_run: Path, tmp_path: Path) -> None:
    def refused(**args: Any) -> str:
        with pytest.raises(ConfigError) as error:
            app_builder({"run": str(own_run), **args})
        return str(error.value)

    with pytest.raises(ConfigError, match="holds no run"):
        app_builder({"run": str(tmp_path)})
    bank = own_run / "bank" / "_manifest.json"
    hidden = bank.rename(tmp_path / "bank.json")
    assert "no finished bank" in refused()
    hidden.rename(bank)
    change(own_run, config__synthesize=None)
    assert "synthesizer is true, but the run makes no images" in refused(synthesizer=True)
    change(own_run, complete=False)
    assert "is not complete; finish it with `scuba run" in refused()
    change(own_run, complete=True)
    rmtree(own_run / "captions")
    assert "no finished captions of subj01, subj02" in refused()


def test_a_token_that_is_none_is_refused(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCUBA_SERVE_TOKEN", "two words")
    with pytest.raises(ConfigError, match="SCUBA_SERVE_TOKEN"):
        app_builder({"run": finished[0].location})
