"""The index of a small phantom bank, as the commands build and describe it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scuba_ray.banks import build_bank
from scuba_ray.cli import app
from scuba_ray.config import EngineConfig, backbone_config
from scuba_ray.phantom.make import make_phantom

pytest.importorskip("faiss")


@pytest.mark.parametrize(("pictures", "recall"), [(800, 0.8), pytest.param(5000, 0.95, marks=pytest.mark.slow)])
def test_ivf_finds_the_nearest_pictures_of_a_phantom_bank_in_a_fifth_of_it(tmp_path: Path, pictures: int, recall: float) -> None:
    """Lists grow with the bank: of few pictures a fifth is too few lists for the recall that is wanted."""
    phantom = make_phantom(tmp_path / "phantom", seed=5, voxels=60, images=100, bank=pictures)
    network, out = backbone_config("phantom:clip"), str(tmp_path / "bank")
    build_bank(images=str(phantom / "bank"), backbone=network, out=out, engine=EngineConfig(name="local"))
    scuba = CliRunner()
    built = scuba.invoke(app, ["bank", "index", out, "--backbone", "phantom:clip", "--kind", "ivf-flat"])
    assert built.exit_code == 0 and built.stdout == f"{out}\n" and "recall@10" in built.stderr
    index = json.loads(scuba.invoke(app, ["bank", "info", out, "--format", "json"]).stdout)[0]["index"]
    assert index["present"] and index["kind"] == "ivf-flat" and index["rows"] == pictures
    assert index["recall_10"] >= recall and index["scanned"] <= 0.2
