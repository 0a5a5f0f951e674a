"""Finding out that nothing is to be done must not load what only computing needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scuba_ray.pipeline import run
from tests.study import TinyStudy


def test_the_pipeline_is_imported_without_models_and_engines() -> None:
    code = "import sys, scuba_ray.pipeline; print([name for name in ('ray', 'open_clip', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_second_run_loads_no_network_library(study: TinyStudy, tmp_path: Path) -> None:
    out = run(study.config(out=str(tmp_path))).location
    code = (
        "import sys; from scuba_ray.config import make_config; from scuba_ray.pipeline import run; "
        "from scuba_ray.tables.store import RunFolder; "
        f"run(make_config(RunFolder({out!r}).read_run_json()['config'])); "
        "print([name for name in ('ray', 'open_clip', 'transformers.models.gpt2.modeling_gpt2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
