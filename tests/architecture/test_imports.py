"""What may import what, and what a bare import costs: contracts run as tests, in fresh interpreters."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from scuba_ray.registry import SEAMS, resolve

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "pandas", "transformers", "open_clip", "nilearn")


def fresh(*arguments: str) -> tuple[str, float]:
    """Output of a fresh interpreter and the seconds of processor it took: a busy machine is not the package's fault."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    assert done.returncode == 0, done.stderr
    return done.stdout, seconds


def test_import_contracts_hold() -> None:
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module",
    ["scuba_ray", "scuba_ray.cli", "scuba_ray.config", "scuba_ray.errors", "scuba_ray.protocols", "scuba_ray.registry"],
)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    loaded, _ = fresh("-c", f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("module", ["scuba_ray.report.show", "scuba_ray.serve.ingress", "scuba_ray.serve.subjects"])
def test_what_answers_from_tables_loads_no_network_library(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'transformers', 'open_clip') if name in sys.modules])"
    assert fresh("-c", code)[0].strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import atexit, sys; sys.argv = ['scuba', '--help']\n"
        f"atexit.register(lambda: print('loaded', [name for name in {HEAVY!r} if name in sys.modules]))\n"
        "from scuba_ray.cli import main; main()"
    )
    shown, _ = fresh("-c", code)
    assert "captioner" in shown
    assert shown.rstrip().endswith("loaded []")


def test_import_takes_less_than_0_3_seconds() -> None:
    code = "import time; began = time.process_time(); import scuba_ray; print(time.process_time() - began)"
    assert min(float(fresh("-c", code)[0]) for _ in range(3)) < 0.3


def test_help_takes_less_than_a_second() -> None:
    assert min(fresh("-m", "scuba_ray", "--help")[1] for _ in range(3)) < 1.0


def test_public_names_resolve() -> None:
    names, _ = fresh("-c", "import scuba_ray; print([name for name in scuba_ray.__all__ if getattr(scuba_ray, name) is None])")
    assert names.strip() == "[]"


@pytest.mark.parametrize(("seam", "name"), [(seam, name) for seam, names in SEAMS.items() for name in names])
def test_every_registered_name_resolves_to_a_class(seam: str, name: str) -> None:
    assert isinstance(resolve(seam, name), type)


def test_importing_starts_and_writes_nothing(tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    code = "import scuba_ray.pipeline, scuba_ray.report.explorer, threading; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
    assert set(tmp_path.iterdir()) == before
