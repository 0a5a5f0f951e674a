"""A finished run for services of tests: two subjects of the tiny study, captioned, with painted pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import RunConfig, make_config
from scuba_ray.pipeline import run as run_steps
from scuba_ray.tables.store import RunFolder
from tests.study import TinyStudy, write_subject

PAINTER = "tests.stages.painted:Painter"
SHIFT = 6
"""Voxel ids of the second subject begin so much later: 100 to 105 are the first's alone, 106 to 111 both's, 112 to 117 its."""


def two_subjects(study: TinyStudy, out: Path) -> RunConfig:
    """The tiny study with a second subject, and images by the test's own synthesizer."""
    second = write_subject(out / "second", seed=3)
    voxels = pq.read_table(second / "voxels.parquet")
    shifted = pa.array([voxel + SHIFT for voxel in voxels["voxel_id"].to_pylist()])
    pq.write_table(voxels.set_column(voxels.column_names.index("voxel_id"), "voxel_id", shifted), second / "voxels.parquet")
    first = study.settings()["subjects"][0]
    settings: dict[str, Any] = study.settings(
        out=str(out / "run"), subjects=[first, {"name": "subj02", "path": str(second)}], analyses=[]
    )
    settings["synthesize"] = {
        "diffusion": {"model": "any"},
        "targets": ["voxels"],
        "voxels": [103],
        "images": 2,
        "text": {"synthesizer": PAINTER},
        "gradient": None,
        "significant": False,
    }
    return make_config(settings)


@pytest.fixture(scope="session")
def finished(study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunConfig]:
    """A finished run of two subjects."""
    config = two_subjects(study, tmp_path_factory.mktemp("served"))
    return run_steps(config), config
