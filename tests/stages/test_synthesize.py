"""The stage that makes pictures: what reaches the synthesizer, what comes back, what goes to quarantine."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

from scuba_ray.config import EngineConfig, SynthesizeConfig
from scuba_ray.datasets.pictures import png_of
from scuba_ray.local import LocalEngine
from scuba_ray.protocols import ImageRequest, Resources
from scuba_ray.stages.image_cautions import of_syntheses
from scuba_ray.stages.synthesize import Synthesize
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.image_schemas import SYNTHESES
from scuba_ray.tables.progress import Result
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from tests.stages.painted import Painter, request, settings, voxel, write_voxels
from tests.stages.pictured import KEY, NAME, SUBJECT, WordBackbone

VOXELS = [
    voxel("dog", rois=["a"]),
    voxel("boat tree", rois=["a"], q=0.9),
    voxel("car", rois=["a", "b"]),
    voxel("lamp", rois=["b"], caption="a nan bread."),
]


def steps_of(run: RunFolder) -> Steps:
    return Steps(run, lambda: LocalEngine(EngineConfig(name="local")), about={})


def synthesize(run: RunFolder, wanted: SynthesizeConfig, method: str = "brainscuba", **changes: Any) -> Result:
    """Plan and make the pictures of one method, in chunks of `wanted.chunk`."""
    route = wanted.gradient if method == "braindive" else wanted.text
    assert route is not None
    painter = Painter(wanted.diffusion.model_copy(update=changes), route, WordBackbone())  # type: ignore[arg-type]
    steps = steps_of(run)
    request(run, wanted, steps)
    stage = Synthesize(subject=SUBJECT, backbone=NAME, method=method, synthesizer=painter, run=run, resources=Resources())
    rows = pc.sum(pc.equal(run.read("requests", key=KEY)["method"], method)).as_py()
    return steps.complete(stage, key=f"{KEY}/{method}", rows=rows, chunk=wanted.chunk, inputs=[])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(str(tmp_path))
    write_voxels(folder, VOXELS[:3])
    return folder


def pixels(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


@pytest.mark.parametrize("chunk", [3, 100])
def test_every_request_is_made_and_can_be_made_again_alone(run: RunFolder, chunk: int) -> None:
    wanted = settings(chunk=chunk, gradient={"images": 3})
    made = synthesize(run, wanted)
    table = run.read("syntheses", key=made.key)
    assert table.schema.equals(SYNTHESES)
    planned = run.read("requests", key=KEY)
    planned = planned.filter(pc.equal(planned["method"], "brainscuba"))
    same = ["subject", "backbone", "target", "method", "sample", "kind", "prompt", "noun", "seed"]
    assert table.select(same).equals(planned.select(same)) and len(table) == 2 * (2 + 2)
    painter = Painter(wanted.diffusion, wanted.text, WordBackbone())  # type: ignore[arg-type]
    for row in table.to_pylist():
        (alone,) = painter.images([ImageRequest(row["prompt"], row["seed"])])
        assert np.array_equal(pixels(row["png"]), alone.pixels_HW3)
        assert (row["seconds"], row["batch"], row["truncated"]) == (0.25, 8, False)


def test_a_direction_is_the_mean_weight_of_the_voxels_that_stand_for_the_target(run: RunFolder) -> None:
    wanted = settings(gradient={"targets": ["rois", "voxels"]})
    table = run.read("syntheses", key=synthesize(run, wanted, "braindive").key)
    weight_VD = matrix(run.read("voxels", key=KEY)["weight"])
    direction_of = {"a": (weight_VD[0] + weight_VD[2]) / 2, "b": weight_VD[2], "voxel 10": weight_VD[0], "voxel 12": weight_VD[2]}
    assert set(table["target"].to_pylist()) == set(direction_of)
    painter = Painter(wanted.diffusion, wanted.gradient, WordBackbone())  # type: ignore[arg-type]
    for row in table.to_pylist():
        (alone,) = painter.images([ImageRequest("", row["seed"], direction_of[row["target"]])])
        # one more or less, where another order of sums rounds to another byte
        assert np.abs(pixels(row["png"]).astype(int) - alone.pixels_HW3).max() <= 1


def test_a_picture_that_cannot_be_made_goes_to_quarantine_alone(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    write_voxels(run, VOXELS)
    wanted = settings(targets=["voxels"], voxels=[10, 13, 12], chunk=4)
    made = synthesize(run, wanted)
    assert [row["target"] for row in run.read("syntheses", key=made.key).to_pylist()] == ["voxel 10"] * 2 + ["voxel 12"] * 2
    bad = run.quarantine().to_pylist()
    assert len(bad) == 2 and all("voxel 13" in row["key"] and "not finite" in row["reason"] for row in bad)
    (said,) = of_syntheses(run, made.key, 6, wanted.diffusion)
    assert "2 of 6 images could not be made" in said


def test_small_memory_and_long_prompts_are_said(run: RunFolder) -> None:
    write_voxels(run, [voxel("dog", caption=f"a {'very ' * 12}red dog."), voxel("car")])
    wanted = settings(targets=["voxels"])
    made = synthesize(run, wanted, batch=2)
    halved, cut = of_syntheses(run, made.key, 4, wanted.diffusion)
    assert "too small for 8 together" in halved and "down to 2" in halved
    assert "setting was smaller when they were made" in halved, "images are kept when only `batch` grows"
    assert "1 of 2 prompts are longer" in cut and "red dog" in cut


def test_what_names_a_result(run: RunFolder) -> None:
    first = synthesize(run, settings())
    again = synthesize(run, settings(chunk=2))
    assert replace(again, chunks=first.chunks) == first, "how rows are cut changes nothing"
    assert synthesize(run, settings(), steps=7).fingerprint != first.fingerprint
    assert synthesize(run, settings(gradient={}), "braindive").fingerprint != first.fingerprint


def test_pixels_come_back_from_a_png() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(pixels(png_of(picture)), picture)
