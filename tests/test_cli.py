"""The command line: names, exit codes, where text goes, and that no error of the user's shows a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import yaml
from typer.testing import CliRunner, Result

import scuba_ray
from scuba_ray.cli import app
from scuba_ray.errors import ConfigError, ContractError, DataError, ScubaError, WorkerError

SETTINGS = {
    "name": "test",
    "out": "run",
    "subjects": [{"name": "subj01", "path": "data"}],
    "backbones": ["phantom:clip"],
    "bank": {"path": "bank"},
    "caption": {"model": "phantom:captioner"},
}


def scuba(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def config_file(folder: Path, **changes: object) -> str:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **changes}))
    return str(path)


def test_version_is_a_result() -> None:
    done = scuba("--version")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"scuba {scuba_ray.__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    ["demo", "run", "show", "report", "doctor", "phantom make", "bank build", "bank import", "bank index", "captioner train"],
)
def test_every_command_explains_itself(command: str) -> None:
    done = scuba(*command.split(), "--help")
    assert done.exit_code == 0
    assert "Usage: " in done.stdout


BAD_CONFIGURATIONS: dict[str, tuple[dict[str, object], list[str], str]] = {
    "unknown key": ({"projct": {}}, [], "projct: no such setting"),
    "wrong type": ({"seed": "many"}, [], "seed must be a whole number, got 'many'"),
    "out of range": ({"project": {"beta": 0.0}}, [], "project.beta must be > 0, got 0.0; the paper uses 150"),
    "out of range by --set": ({}, ["--set", "project.beta=0"], "project.beta must be > 0, got 0; the paper uses 150"),
    "unknown key by --set": ({}, ["--set", "project.bta=1"], "project.bta: no such setting"),
    "bad --set": ({}, ["--set", "project.beta"], "--set wants a.b=value, got 'project.beta'"),
    "subject twice": ({"subjects": SETTINGS["subjects"] * 2}, [], "subjects must have different names"),  # type: ignore[operator]
    "no data": ({}, [], "data"),
}


@pytest.mark.parametrize("kind", BAD_CONFIGURATIONS)
def test_a_bad_configuration_is_exit_2_and_one_paragraph(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, options, message = BAD_CONFIGURATIONS[kind]
    monkeypatch.chdir(tmp_path)
    done = scuba("run", config_file(tmp_path, **changes), *options)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_configuration_is_exit_2(tmp_path: Path) -> None:
    done = scuba("run", str(tmp_path / "nowhere.yaml"))
    assert done.exit_code == 2
    assert "nowhere.yaml" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["dmo", "run", "demo --engine spark", "demo --voxels many", "show run --voxel 1 --roi FFA", "phantom make", "bank build"],
)
def test_a_wrong_usage_is_exit_2(command: str) -> None:
    done = scuba(*command.split())
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_folder_without_a_run_is_exit_2(command: str, tmp_path: Path) -> None:
    done = scuba(command, str(tmp_path / "nothing"))
    assert done.exit_code == 2
    assert "holds no run" in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.fixture
def failing_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BaseException], Result]:
    """`scuba run` on a pipeline that ends in a given way."""

    def go(error: BaseException) -> Result:
        def run(config: object, *, listen: object) -> None:
            raise error

        monkeypatch.setitem(sys.modules, "scuba_ray.pipeline", cast(ModuleType, SimpleNamespace(run=run)))
        return scuba("run", config_file(tmp_path))

    return go


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a setting"), 2),
        (DataError("a file"), 1),
        (ContractError("a column"), 1),
        (WorkerError("step encode (subj01/clip) failed: no memory\nrun the same command again to resume"), 1),
    ],
)
def test_an_error_of_ours_is_its_message_and_its_code(
    error: ScubaError, code: int, failing_run: Callable[[BaseException], Result]
) -> None:
    done = failing_run(error)
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", f"error: {error}\n")


def test_brackets_in_a_message_are_text(failing_run: Callable[[BaseException], Result]) -> None:
    assert failing_run(DataError("rows [3, 5) of [bold]x[/bold]")).stderr == "error: rows [3, 5) of [bold]x[/bold]\n"


def test_ctrl_c_says_how_to_go_on(failing_run: Callable[[BaseException], Result]) -> None:
    done = failing_run(KeyboardInterrupt())
    assert done.exit_code == 130
    assert "run again to resume" in done.stderr


def run_that(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`scuba run` as a process of its own, on a pipeline whose `run` has a given body."""
    code = (
        "import os, signal, sys, time, types\n"
        f"def run(config, *, listen):\n    {body}\n"
        "sys.modules['scuba_ray.pipeline'] = types.SimpleNamespace(run=run)\n"
        f"sys.argv = ['scuba', 'run', {config_file(folder)!r}]\n"
        "from scuba_ray.cli import main\n"
        "main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_unexpected_exception_keeps_its_traceback(tmp_path: Path) -> None:
    done = run_that("raise ZeroDivisionError('a bug')", tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def test_a_real_interrupt_is_exit_130(tmp_path: Path) -> None:
    # a process started in the background ignores SIGINT, and so would its child: Python's own handler is put back first
    done = run_that("signal.signal(2, signal.default_int_handler); os.kill(os.getpid(), 2); time.sleep(30)", tmp_path)
    assert done.returncode == 130
    assert "run again to resume" in done.stderr
    assert "Traceback" not in done.stderr
