"""Estimates of `scuba data check` held against what a run leaves on the disk, and what its passes hold in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import make_config
from scuba_ray.data_check import check
from scuba_ray.pipeline import run
from scuba_ray.stages.estimates import Sizes, memory
from tests.preparing import memory_of_preparing
from tests.study import STIMULI, TinyStudy, write_subject

DISK, MEMORY = 2.0, 2.5
"""Factors within which estimates are. A phantom's run of 300 voxels and 2,000 pictures of the bank: 0.93 to 1.41 on the disk."""
BOOKKEEPING = 16_000
"""Bytes of ids and of Parquet's own, which count in a table of a few kB."""
VOXELS = 300


def widen(folder: Path) -> None:
    """More voxels of the same subject: with few, Parquet's own bookkeeping is most of a file."""
    rng = np.random.default_rng(0)
    few_TV = np.nan_to_num(np.load(folder / "responses.npy"), posinf=0)
    mixed_TV = few_TV @ rng.normal(size=(few_TV.shape[1], VOXELS)) + rng.normal(size=(len(few_TV), VOXELS))
    np.save(folder / "responses.npy", mixed_TV.astype(np.float32))
    pq.write_table(pa.table({"voxel_id": np.arange(VOXELS), "rois": [["faces"]] * VOXELS}), folder / "voxels.parquet")


def test_disk_of_a_run(own_study: TinyStudy) -> None:
    widen(own_study.folder / "subject")
    chunks = {"prepare__chunk": 300, "fit__chunk": 300, "project__chunk": 300, "caption__chunk": 300, "caption__beams": 1}
    config = own_study.config(**chunks, concepts={"pictures": 5}, analyses=[])
    estimate = check(config).estimates["disk"]
    run(config)
    tables = {
        "responses": ("responses",),
        "embeddings": ("embeddings",),
        "fits and voxels": ("fits", "voxels"),
        "projections": ("projections",),
        "bank": ("bank",),
        "nearest pictures": ("nearest_pictures",),
    }
    for name, parts in tables.items():
        there = sum(path.stat().st_size for part in parts for path in (Path(config.out) / part).rglob("*.parquet"))
        close = 1 / DISK < estimate[name] / there < DISK
        assert close or abs(estimate[name] - there) < BOOKKEEPING, (name, estimate[name], there)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("trials", "sessions", "voxels", "chunk"),
    [(2_000, 2, 4_000, 100), pytest.param(12_000, 48, 600, 600, marks=pytest.mark.slow)],
)
def test_memory_of_both_passes_over_responses(trials: int, sessions: int, voxels: int, chunk: int, tmp_path: Path) -> None:
    """Large sessions, of which reading holds six; and many small ones, of which averaging holds a block of all trials."""
    small, large = write_subject(tmp_path / "small"), write_subject(tmp_path / "large")
    ids = [f"s{index % STIMULI:04d}" for index in range(trials)]
    session_T = pa.array(np.arange(trials) * sessions // trials, pa.int32())
    pq.write_table(pa.table({"trial": np.arange(trials), "stimulus_id": ids, "session": session_T}), large / "trials.parquet")
    pq.write_table(pa.table({"voxel_id": np.arange(voxels)}), large / "voxels.parquet")
    np.save(large / "responses.npy", np.random.default_rng(0).normal(size=(trials, voxels)).astype(np.float32))
    held = memory_of_preparing(large, tmp_path / "two", after=small, into=tmp_path / "one", chunk=chunk)
    settings = {"subjects": [{"name": "a", "path": "a"}], "bank": {"images": "b"}, "caption": {"model": "c"}, "out": "d"}
    config = make_config({"name": "e", **settings, "backbones": ["phantom:clip"], "prepare": {"chunk": chunk}})
    estimate = memory(config, {"a": Sizes(STIMULI, trials, trials // sessions, voxels, 512, None, 0.0, 0.0)})
    ratio = max(estimate["read"], estimate["average"]) / held
    assert 1 / MEMORY < ratio < MEMORY, ratio
