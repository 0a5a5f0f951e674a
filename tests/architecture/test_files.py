"""Sizes, the README's file tree, and nothing of one machine in any tracked file."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "scuba_ray").rglob("*.py"))


def tracked() -> list[str]:
    """Paths git knows; a source tree without git has no such list."""
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def test_no_module_is_over_300_lines_and_half_are_under_150() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 300} == {}
    assert median(lines.values()) <= 150


def test_no_function_is_over_50_lines() -> None:
    """Code lines: a docstring may be as long as its shapes, units and errors need."""
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0].end_lineno if ast.get_docstring(node) is not None else node.lineno - 1
                assert first is not None and node.end_lineno is not None
                if node.end_lineno - first > 50:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = node.end_lineno - first
    assert long == {}


def test_every_module_introduces_itself() -> None:
    silent = [str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_the_readme_tree_is_the_real_one() -> None:
    """Every top-level entry, and every module or folder directly in the package, is named with a phrase, and nothing else."""
    block = re.search(r"## Files\n.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block, "README.md has a section '## Files' with the tree in a fenced block"
    top, inside = set(), set()
    for line in block[1].splitlines():
        entry = re.match(r"( *)(\S+)  +\S", line)
        assert entry, f"not an entry with a phrase: {line!r}"
        (inside if entry[1] else top).add(entry[2].rstrip("/"))
    names = tracked()
    assert top == {name.split("/")[0] for name in names} - {".gitignore"}
    package = {name.split("/")[1] for name in names if name.startswith("scuba_ray/")}
    assert inside == package - {"__init__.py"}


PERSONAL = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:home|root|Users|work|opt/pypi|opt/wheels)/\w"),
    "a package index": re.compile(r"(?:index-url|find-links|files\.pythonhosted\.org|pypi\.org/simple|file:///)"),
    "a private address": re.compile(r"\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b"),
}


@pytest.mark.parametrize("what", PERSONAL)
def test_no_tracked_file_holds_something_of_one_machine(what: str) -> None:
    found = []
    for name in tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" in data[:4096] or name == "tests/architecture/test_files.py":
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
            if PERSONAL[what].search(line):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert found == []
