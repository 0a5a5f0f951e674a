"""Both routes on both engines: the pictures of a synthesizer in this process, in batches of another size."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from shutil import copytree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from scuba_ray.config import RunConfig, make_config
from scuba_ray.pipeline import run as complete_run
from scuba_ray.protocols import Engine, Resources
from scuba_ray.stages.study import open_study
from scuba_ray.stages.synthesize import Synthesize
from scuba_ray.tables.naming import cut
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.worker import StageTask
from tests.models.tiny_diffusion import write_diffusion
from tests.study import TinyStudy

KEY = "subj01/tiny"


@pytest.fixture(scope="module")
def made(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunFolder]:
    """A run with pictures of two regions by both routes, one picture at a time."""
    folder = tmp_path_factory.mktemp("made")
    model = {"model": str(write_diffusion(folder / "diffusion")), "steps": 3, "batch": 1}
    wanted = {
        "diffusion": model,
        "targets": ["rois"],
        "rois": ["food", "faces"],
        "images": 2,
        "significant": False,
        "gradient": {},
    }
    config = make_config({**study.settings(out=str(folder / "run")), "synthesize": wanted})
    return config, complete_run(config)


@pytest.mark.parametrize("method", [pytest.param("brainscuba", marks=pytest.mark.slow), "braindive"])
def test_engines_and_batches_make_the_same_pictures(
    made: tuple[RunConfig, RunFolder], engine: Engine, tmp_path: Path, method: str
) -> None:
    config, finished = made
    copytree(finished.location, tmp_path / "run")
    run = RunFolder(str(tmp_path / "run"))
    wanted = config.synthesize
    assert wanted is not None
    many = wanted.model_copy(update={"diffusion": wanted.diffusion.model_copy(update={"batch": 8})})
    synthesizer = open_study(config.model_copy(update={"synthesize": many})).synthesizers[method]
    stage = Synthesize(
        subject="subj01", backbone="tiny", method=method, synthesizer=synthesizer, run=run, resources=Resources(cpus=0.5)
    )
    with run.lock():
        unit = run.begin(step="synthesize", table="syntheses", key="again", fingerprint="c" * 64)
        chunks = cut(4, 3)
        run.finish(unit, chunks, list(engine.map(StageTask(stage, unit), chunks)))
    one, two = finished.read("syntheses", key=f"{KEY}/{method}"), run.read("syntheses", key="again")
    assert one.drop(["png", "seconds", "batch"]).equals(two.drop(["png", "seconds", "batch"]))
    assert pc.unique(one["batch"]).to_pylist() == [1] and pc.unique(two["batch"]).to_pylist() == [8]
    assert len({png.as_py() for png in one["png"]}) == 4, "each has its own noise"
    assert np.abs(pixels(one["png"]) - pixels(two["png"])).max() <= 1


def pixels(pngs: pa.ChunkedArray) -> np.ndarray:
    return np.stack([np.asarray(Image.open(BytesIO(png))).astype(int) for png in pngs.to_pylist()])
