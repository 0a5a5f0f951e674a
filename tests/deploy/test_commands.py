"""Every command line of `scuba` and `ray` in the files, the comments and the page parses, and every file they name is there."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ray.scripts.scripts import cli as ray_cli

from scuba_ray.cli import app
from scuba_ray.config.serve import serve_config
from tests.deploy.files import DEPLOY, ROOT, load, tracked

SCUBA = typer.main.get_command(app)
PROGRAMS: dict[str, Any] = {"scuba": SCUBA, "ray": ray_cli}
SOURCES = [*tracked(), ROOT / "examples" / "cluster.yaml"]


def lines(path: Path) -> Iterator[str]:
    """Logical lines: comment signs taken off, continued ones joined, shell variables as one word each."""
    text = re.sub(r"^[ \t]*#", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"\n    --", " --", text)  # folded scalars of YAML
    text = text.replace('"$@"', "").replace('"${on_each[@]}"', "--block")
    yield from re.sub(r'"?\$\(\(.*?\)\)"?|"?\$\{?[\w@%:.*]+\}?(:\d+)?"?', "7", text).splitlines()


def commands(path: Path) -> list[tuple[str, list[str]]]:
    found = []
    for line in lines(path):
        for program, group in PROGRAMS.items():
            known = "|".join(re.escape(name) for name in group.commands)
            for rest in re.findall(rf"(?:^|[\s`(;]){program} ((?:{known})(?![\w-])[^`#;|&\n]*)", line):
                words = shlex.split(re.split(r"  |\)$|\.\.\.", rest)[0])
                found.append((program, words))
    return found


def parse(program: str, words: list[str]) -> None:
    """Raise what click raises for options and arguments that are not there; runs nothing."""
    command, context = PROGRAMS[program], None
    while hasattr(command, "commands"):
        context = command.make_context(program, [words[0]], parent=context, resilient_parsing=True)
        _, command, _ = command.resolve_command(context, words[:1])
        words = words[1:]
        if hasattr(command, "commands") and not words:
            return
    if not words:
        return  # the name of a command in a sentence
    command.make_context(program, list(words), parent=context)


def test_the_lines_are_found() -> None:
    every = [" ".join([program, *words]) for path in SOURCES for program, words in commands(path)]
    assert any(line.startswith("scuba run cluster.yaml") or "-- scuba run cluster.yaml" in line for line in every)
    assert sum(line.startswith("ray start --head") for line in every) >= 3
    assert sum(line.startswith("ray job submit") for line in every) >= 5
    with pytest.raises(Exception, match="No such option"):
        parse("scuba", ["run", "my.yaml", "--adress", "auto"])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_line_parses(path: Path) -> None:
    for program, words in commands(path):
        parse(program, words)
        if program == "ray" and "--" in words:
            inner = words[words.index("--") + 1 :]
            if inner[0] == "scuba":
                parse("scuba", inner[1:])


def test_import_paths_resolve_and_their_arguments_are_settings() -> None:
    for application in load(DEPLOY / "serve" / "config.yaml")["applications"]:
        module, _, name = application["import_path"].partition(":")
        assert callable(getattr(importlib.import_module(module), name))
        settings = serve_config(application["args"])
        shares = [getattr(settings, group).gpus for group in ("encoder", "projector", "captioner", "nearest")]
        assert all(shares), "what computes on cuda has to reserve some of it"
        assert sum(shares) <= 1, "one replica of each fits one GPU"
        http = load(DEPLOY / "serve" / "config.yaml")["http_options"]
        assert http["request_timeout_s"] > settings.limits.seconds, "the service answers 504 itself, in words"


def test_links_and_named_files_are_there() -> None:
    page = (DEPLOY / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (DEPLOY / link).exists(), link
    for path in SOURCES:
        for name in re.findall(r"(?<![\w/.])(?:deploy|examples|scuba_ray|benchmarks|tests)/[\w/.-]+\w", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
    named = {link.split("/")[0] for link in re.findall(r"\]\(([^)#]+)\)", page)}
    assert {path.name for path in DEPLOY.iterdir()} - {"README.md"} <= named, "every file has its row"
