"""A run that is killed while it makes pictures makes no finished one twice, and ends with those of a run left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scuba_ray.config import make_config
from scuba_ray.pipeline import run
from tests.faults.test_killed_run import DRIVER
from tests.models.tiny_diffusion import write_diffusion
from tests.study import TinyStudy


def pictures(out: Path) -> list[Path]:
    return sorted(out.glob("syntheses/*.parquet"))


@pytest.mark.slow
def test_sigkill_while_pictures_are_made(study: TinyStudy, tmp_path: Path) -> None:
    model = {"model": str(write_diffusion(tmp_path / "diffusion")), "steps": 4, "batch": 2}
    targets = {"targets": ["rois", "voxels"], "voxels": 2, "significant": False, "images": 4, "chunk": 1}
    wanted = {"diffusion": model, **targets, "gradient": {}}
    out = tmp_path / "killed"
    settings = {**study.settings(out=str(out)), "synthesize": wanted}
    for parts in (5, 24):
        driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, text=True)
        assert driver.stdin is not None
        driver.stdin.write(json.dumps(settings))
        driver.stdin.close()
        while len(pictures(out)) < parts and driver.poll() is None:
            time.sleep(0.002)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL, "it was killed, it did not end"
    survivors = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in pictures(out)}
    # 3 regions and 2 voxels by text, 3 regions by gradient
    assert 24 <= len(survivors) < 32
    finished = run(make_config(settings))
    assert len(pictures(out)) == 32
    assert all((path.stat().st_mtime_ns, path.read_bytes()) == found for path, found in survivors.items())
    whole = run(make_config({**settings, "out": str(tmp_path / "whole")}))
    one, two = (folder.read("syntheses").drop(["seconds"]) for folder in (finished, whole))
    assert one.drop(["png"]).equals(two.drop(["png"]))
    for mine, other in zip(one["png"].to_pylist(), two["png"].to_pylist(), strict=True):
        first, second = (np.asarray(Image.open(BytesIO(png))).astype(int) for png in (mine, other))
        assert np.abs(first - second).max() <= 1
