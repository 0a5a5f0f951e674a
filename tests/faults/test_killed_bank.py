"""A bank whose driver is killed, at any step, ends with the shards of one that was left alone, and nothing is built twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scuba_ray.bank.info import info
from scuba_ray.banks import build_bank
from scuba_ray.config import BackboneConfig, EncodeConfig, EngineConfig, make_config
from scuba_ray.phantom.scenes import load_drawings, render, sample_drawings, sample_scenes
from scuba_ray.phantom.seeds import BANK, generator
from scuba_ray.tables.store import RunFolder
from tests.datasets.mixed import Mixed, encode, write_mixed
from tests.study import TinyStudy

DRIVER = """
import json, sys
from scuba_ray.banks import build_bank
from scuba_ray.config import make_config
given = json.load(sys.stdin)
config = make_config(given.pop("settings"))
build_bank(backbone=config.backbones[0], encode=config.encode, engine=config.engine, **given)
"""
WORKERS = 2


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    return write_mixed(tmp_path_factory.mktemp("pictures") / "wild", 170, 30)


def settings_of(study: TinyStudy, engine: str) -> dict[str, Any]:
    pool = {"name": engine, "max_workers": WORKERS}
    return study.settings(encode={"batch": 8, "chunk": 10}, engine=pool)


def build(study: TinyStudy, images: Path, out: Path) -> int:
    config = make_config(settings_of(study, "local"))
    made = {"backbone": config.backbones[0], "encode": config.encode, "engine": config.engine}
    return build_bank(images=str(images), out=str(out), **made).rows


def drive(study: TinyStudy, images: Path, out: Path, engine: str) -> subprocess.Popen[str]:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert driver.stdin is not None
    driver.stdin.write(json.dumps({"settings": settings_of(study, engine), "images": str(images), "out": str(out)}))
    driver.stdin.close()
    return driver


def kill_at(driver: subprocess.Popen[str], out: Path, pattern: str, count: int) -> None:
    """Kill the driver as soon as so many files are there."""
    while len(list(out.glob(pattern))) < count and driver.poll() is None:
        time.sleep(0.002)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "it was killed, it did not end"


def results(out: Path) -> dict[str, bytes]:
    """Bytes of everything a bank is: shards, what was left out, lists and manifests."""
    found = [path for path in sorted(out.glob("*/*")) if path.suffix in {".parquet", ".json"} and not path.name.startswith(".")]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def shards(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("bank/*.parquet")}


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_killed_build_is_completed_to_the_byte(study: TinyStudy, mixed: Mixed, tmp_path: Path, engine: str) -> None:
    assert build(study, mixed.folder, tmp_path / "whole") == 170
    out = tmp_path / "killed"
    moments = [("listings/*", 1), ("bank/*.parquet", 2), ("bank/*.parquet", 9)]
    for pattern, count in moments if engine == "local" else moments[-1:]:
        kill_at(drive(study, mixed.folder, out, engine), out, pattern, count)
    survivors = shards(out)
    assert 9 <= len(survivors) < 20
    assert build(study, mixed.folder, out) == 170
    after = shards(out)
    assert {name: after[name] for name in survivors} == survivors, "what was there was not built again"
    assert results(out) == results(tmp_path / "whole")


def test_a_source_that_grew_while_its_bank_was_half_built(study: TinyStudy, tmp_path: Path) -> None:
    mixed = write_mixed(tmp_path / "wild", 50, 6)
    out = tmp_path / "killed"
    kill_at(drive(study, mixed.folder, out, "local"), out, "bank/*.parquet", 2)
    write_mixed(tmp_path / "later", 9, 1, seed=5)
    (tmp_path / "later").rename(mixed.folder / "zz")
    assert build(study, mixed.folder, out) == 59
    listings = sorted(path.stem for path in (out / "listings").iterdir())
    assert listings == ["wild", "wild+1"]


def write_mixed_phantom(folder: Path, count: int, bad: int) -> Mixed:
    """Phantom scenes in mixed formats among bad files."""
    mixed = write_mixed(folder, count, bad)
    drawings, draw = load_drawings(), generator(BANK)
    scenes = sample_scenes(draw, sample_drawings(draw, count, drawings))
    for start in range(0, count, 250):
        pixels_BHW3 = render(scenes[start : start + 250], drawings).permute(0, 2, 3, 1).contiguous().numpy()
        for name, pixels in zip(mixed.good[start : start + 250], pixels_BHW3, strict=True):
            (folder / name).write_bytes(encode(pixels, Path(name).name.split(".", 1)[1]))
    for copy, original in mixed.duplicates.items():
        (folder / copy).write_bytes((folder / original).read_bytes())
    return mixed


@pytest.mark.slow
def test_five_thousand_phantom_pictures_fifty_of_them_bad_killed_midway(tmp_path: Path) -> None:
    mixed = write_mixed_phantom(tmp_path / "wild", 4950, 50)
    settings = {
        "name": "bank",
        "out": "unused",
        "subjects": [{"name": "s", "path": "unused"}],
        "backbones": ["phantom:clip"],
        "bank": {"path": "unused"},
        "caption": {"model": "unused"},
        "encode": {"chunk": 250},
        "engine": {"name": "ray", "max_workers": WORKERS},
    }
    given = {"settings": settings, "images": str(mixed.folder), "out": str(tmp_path / "killed")}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert driver.stdin is not None
    driver.stdin.write(json.dumps(given))
    driver.stdin.close()
    kill_at(driver, tmp_path / "killed", "bank/*.parquet", 10)
    survivors = shards(tmp_path / "killed")
    work = {"encode": EncodeConfig(chunk=250), "engine": EngineConfig(name="ray", max_workers=WORKERS)}
    backbone = BackboneConfig(name="clip", model="phantom:clip")
    for out in (tmp_path / "killed", tmp_path / "whole"):
        bank = build_bank(images=str(mixed.folder), backbone=backbone, out=str(out), **work)
        assert bank.rows == 4950
    after = shards(tmp_path / "killed")
    assert len(after) == 20 and {name: after[name] for name in survivors} == survivors
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    reasons = {
        row["key"].removeprefix("image_id="): row["reason"].lower() for row in RunFolder(bank.location).quarantine().to_pylist()
    }
    assert set(reasons) == set(mixed.bad) and all(words in reasons[name] for name, words in mixed.bad.items())
    assert info(bank.location)[0]["listed"] == 5000
