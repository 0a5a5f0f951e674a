"""A small data set in the `arrays` layout, written file by file, so that each file can be spoilt."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.datasets.nsd_files import Planted, small_nsd

STIMULI, REPEATS, VOXELS = 12, 3, 5


def png(color: tuple[int, ...] = (10, 20, 30), mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a data set; keywords replace a table or the responses."""

    def write(
        name: str = "data",
        *,
        stimuli: pa.Table | None = None,
        trials: pa.Table | None = None,
        voxels: pa.Table | None = None,
        responses: np.ndarray | None = None,
        description: dict[str, object] | None = None,
    ) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        ids = [f"s{index:02d}" for index in range(STIMULI)]
        for index, stimulus in enumerate(ids):
            (folder / "images" / f"{stimulus}.png").write_bytes(png((index, 0, 0)))
        default_stimuli = pa.table(
            {"stimulus_id": ids, "uri": [f"{stimulus}.png" for stimulus in ids], "split": ["test"] * 3 + ["train"] * 9}
        )
        shown = [ids[index % STIMULI] for index in range(STIMULI * REPEATS)]
        default_trials = pa.table(
            {
                "trial": np.arange(len(shown)),
                "stimulus_id": shown,
                "session": pa.array([index // 12 for index in range(len(shown))], pa.int32()),
            }
        )
        default_voxels = pa.table(
            {"voxel_id": np.arange(VOXELS) + 100, "hemi": ["lh"] * VOXELS, "vertex": pa.array(range(VOXELS), pa.int32())}
        )
        noise = np.random.default_rng(0).normal(size=(len(shown), VOXELS)).astype(np.float32)
        default_description = {"layout": "arrays", "version": 1, "subject": "small", "geometry": "fsaverage5"}
        (folder / "dataset.json").write_text(json.dumps(default_description if description is None else description))
        pq.write_table(default_stimuli if stimuli is None else stimuli, folder / "stimuli.parquet")
        pq.write_table(default_trials if trials is None else trials, folder / "trials.parquet")
        pq.write_table(default_voxels if voxels is None else voxels, folder / "voxels.parquet")
        np.save(folder / "responses.npy", noise if responses is None else responses)
        return folder

    return write


@pytest.fixture(scope="session")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A small NSD in both formats of volumes; tests that change its files take `own`."""
    return small_nsd(tmp_path_factory.mktemp("nsd"), ("nifti", "hdf5"))


@pytest.fixture
def own(nsd: Planted, tmp_path: Path) -> Planted:
    """A copy that a test may spoil, NIfTI only."""
    shutil.copytree(nsd.root, tmp_path / "own")
    copy = Planted(**{**vars(nsd), "root": tmp_path / "own"})
    for path in copy.betas.glob("*.hdf5"):
        path.unlink()
    return copy
