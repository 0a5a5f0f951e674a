"""`scuba doctor`: what it finds wrong is wrong, what to do is said, and only what prevents running is exit 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scuba_ray.cli import app
from scuba_ray.doctor import Finding, examine, prevents_running


def doctor(*options: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *options])


def install(folder: Path, name: str, version: str) -> None:
    """A package as pip records it, without its files."""
    record = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_whole_machine_is_well() -> None:
    done = doctor()
    assert done.exit_code == 0, done.stdout
    for what in ("Python", "torch", "ray", "device cpu", "disk free here", "model clip", "model captioner", "model hub"):
        assert what in done.stdout
    assert "problem" not in done.stdout


def test_two_faiss_packages_are_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "faiss-cpu", "1.15.1")
    install(tmp_path, "faiss-gpu", "1.15.0")
    monkeypatch.syspath_prepend(tmp_path)
    found = by_name(examine())["faiss"]
    assert (found.state, found.found) == ("problem", "faiss-cpu 1.15.1, faiss-gpu 1.15.0")
    assert "pip uninstall faiss-cpu faiss-gpu" in found.advice
    done = doctor()
    assert done.exit_code == 1
    assert "both own the module faiss" in done.stdout


def test_a_package_that_is_too_old_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "rich", "1.0")
    monkeypatch.syspath_prepend(tmp_path)
    found = by_name(examine())["rich"]
    assert found.state == "problem"
    assert found.found.startswith("1.0, too old: >=")
    assert "pip install 'rich>=" in found.advice


def test_a_package_that_fails_to_import_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "h5py", "99.0")
    (tmp_path / "h5py.py").write_text("raise OSError('libhdf5.so: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "h5py", raising=False)
    found = by_name(examine())["h5py"]
    assert (found.state, found.found) == ("problem", "99.0, does not import: libhdf5.so: cannot open shared object file")


def test_offline_mode_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert by_name(examine())["model hub"].found == "offline (HF_HUB_OFFLINE): only models on this machine"


def test_a_cluster_that_does_not_answer_is_a_problem_when_asked_for() -> None:
    findings = examine("127.0.0.1:1")
    assert by_name(findings)["Ray cluster"].state == "problem"
    assert prevents_running(findings)
    assert "Ray cluster" not in by_name(examine())
