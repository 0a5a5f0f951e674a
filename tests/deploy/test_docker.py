"""The Dockerfile: pins agree with the rest, shell passes shellcheck, all that is copied is there, and nothing is root's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, PINS, ROOT, VERSION, tracked

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"
KNOWN = {"ARG", "FROM", "SHELL", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Instructions with their arguments; continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage, by its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found[rest.rpartition(" AS ")[2]] = [(word, rest)]
        elif found:
            list(found.values())[-1].append((word, rest))
    return found


def test_instructions_and_targets() -> None:
    assert {word for word, _ in instructions()} <= KNOWN
    names = list(stages())
    assert {"cpu", "cuda"} <= set(names)
    for place, (name, lines) in enumerate(stages().items()):
        base = lines[0][1].rpartition(" AS ")[0]
        assert base == "python:${PYTHON}" or base in names[:place], f"{name} is made of a stage above it"


def test_every_shell_line_passes_shellcheck(tmp_path: Path) -> None:
    for number, (word, rest) in enumerate(instructions()):
        if word == "RUN":
            script = tmp_path / f"{number}.sh"
            command = re.sub(r"^(--mount=\S+ +)+", "", rest)
            given = "export TORCH_INDEX=an-index FAISS_GPU=1"
            script.write_text(f"#!/bin/bash\nset -o errexit -o nounset -o pipefail\n{given}\n{command}\n")
            subprocess.run([SHELLCHECK, script], check=True)


@pytest.mark.parametrize(("target", "extra"), [("cpu", "cpu"), ("cuda", "gpu")])
def test_packages_are_the_pinned_ones_with_the_right_faiss(target: str, extra: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (install,) = [rest for word, rest in stages()[f"{target}-packages"] if word == "RUN"]
    assert f"'/source[{extra},serve]'" in install
    assert "--constraint /source/constraints.txt" in install
    assert {extra, "serve"} <= set(extras)
    if target == "cuda":
        (pin,) = [rest.partition("=")[2] for word, rest in stages()["cuda-packages"] if rest.startswith("FAISS_GPU")]
        (wanted,) = extras["gpu"]
        from packaging.requirements import Requirement

        assert Requirement(wanted).specifier.contains(pin)
        assert "faiss-gpu==${FAISS_GPU}" in install
    else:
        assert "faiss-cpu" in PINS


def test_the_python_is_one_exact_version_that_scuba_ray_takes() -> None:
    python = next(rest for word, rest in instructions() if word == "ARG").partition("=")[2]
    version = re.match(r"3\.(\d+)\.\d+-", python)
    assert version
    assert int(version[1]) >= 11
    assert "Python 3.11" in (ROOT / "constraints.txt").read_text().splitlines()[0]
    assert version[1] == "11", "the one that constraints.txt was frozen with"


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_nothing_runs_as_root_and_the_launcher_finds_the_home(target: str) -> None:
    assert [rest for word, rest in stages()[target] if word == "USER"] == ["scuba"]
    base = " ".join(rest for _, rest in stages()["base"])
    assert "--uid 1000" in base
    assert "HOME=/scuba" in base, "Ray's launcher reads it from the image"
    assert "rsync" in base
    assert "openssh-client" in base


def test_what_is_copied_is_there_and_let_in() -> None:
    patterns = [
        line for line in (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"
    ]
    assert patterns[0] == "*"
    for word, rest in instructions():
        if word == "COPY":
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in patterns
    assert any(fnmatch("scuba_ray/__pycache__", pattern) for pattern in patterns)


def test_every_image_that_is_named_is_of_this_version() -> None:
    found = {tag for path in tracked() for tag in re.findall(r"scuba-ray:([\w.-]+)", path.read_text())}
    assert found == {f"{VERSION}-cpu", f"{VERSION}-cuda"}
