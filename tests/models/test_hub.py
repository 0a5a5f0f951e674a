"""Checkpoints are fetched once per machine and never against HF_HUB_OFFLINE. The only network here is a folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import hashlib, pickle, sys
import open_clip.pretrained
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import OpenClipBackbone
tags = open_clip.pretrained._PRETRAINED["RN50"]
tags["test"] = {"url": sys.argv[1]}
try:
    backbone = OpenClipBackbone("any", "open_clip:RN50/test")
    print(hashlib.sha256(backbone._checkpoint.read_bytes()).hexdigest())
    assert "_checkpoint" not in vars(pickle.loads(pickle.dumps(backbone))), "another machine has it elsewhere"
except ConfigError as error:
    print("ConfigError", error)
"""


def ask(url: str, home: Path, **environment: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home), **environment}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, url], stdout=subprocess.PIPE, text=True, env=environment)


def test_processes_that_want_the_same_checkpoint_at_once_all_get_the_whole_of_it(tmp_path: Path) -> None:
    checkpoint = tmp_path / "RN50-test.pt"
    checkpoint.write_bytes(np.random.default_rng(0).bytes(50_000_000))
    home = tmp_path / "home"
    said = {child.communicate()[0].strip() for child in [ask(checkpoint.as_uri(), home) for _ in range(2)]}
    assert said == {hashlib.sha256(checkpoint.read_bytes()).hexdigest()}


@pytest.mark.slow
def test_offline_says_what_is_missing_and_where_to_put_it(tmp_path: Path) -> None:
    checkpoint = tmp_path / "RN50-test.pt"
    checkpoint.write_bytes(b"weights")
    home = tmp_path / "home"
    said = ask(checkpoint.as_uri(), home, HF_HUB_OFFLINE="1").communicate()[0]
    copy = home / ".cache" / "clip" / checkpoint.name
    assert said.startswith("ConfigError") and "HF_HUB_OFFLINE is set" in said and f"at {copy}" in said
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(b"weights")
    said = ask(checkpoint.as_uri(), home, HF_HUB_OFFLINE="1").communicate()[0]
    assert said.strip() == hashlib.sha256(b"weights").hexdigest()
