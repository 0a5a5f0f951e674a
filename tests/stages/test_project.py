"""project's own promises, beside the one-shot formula that whole runs are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import ProjectConfig
from scuba_ray.protocols import Resources
from scuba_ray.stages.project import Project
from scuba_ray.tables.columns import matrix, vectors
from scuba_ray.tables.schemas import projections_schema
from scuba_ray.tables.store import RunFolder
from tests.bank.test_shards import DIM, write_bank


def stage(folder: Path, **settings: float) -> Project:
    bank = BankFolder(str(folder), "small", ("small",))
    config = ProjectConfig.model_validate({"beta": 3, "nearest": 4, **settings})
    return Project(
        subject="s", backbone="small", dim=DIM, run=RunFolder(str(folder)), bank=bank, settings=config, resources=Resources()
    )


def voxels(count: int = 7, status: str = "ok") -> pa.Table:
    weight_VD = np.random.default_rng(3).normal(size=(count, DIM)).astype(np.float32)
    return pa.table({"voxel_id": np.arange(count), "status": [status] * count, "weight": vectors(weight_VD)})


@pytest.mark.parametrize("tile", [1, 5, 64, 10_000])
def test_tiles_and_shards_change_nothing(tmp_path: Path, tile: int) -> None:
    write_bank(tmp_path, (40, 3, 0, 57))
    one = stage(tmp_path)(voxels()).table
    two = stage(tmp_path, tile=tile)(voxels()).table
    np.testing.assert_allclose(matrix(one["embedding"]), matrix(two["embedding"]), rtol=1e-5, atol=1e-7)
    assert one["nearest_ids"].equals(two["nearest_ids"])


def test_a_partition_without_pictures_has_no_row(tmp_path: Path) -> None:
    write_bank(tmp_path, (2,))
    output = stage(tmp_path)(voxels(3))
    assert output.table.schema.equals(projections_schema(DIM))
    assert output.table["partition"].to_pylist() == [3, -1] * 3, "image0 and image1 are both in partition 3"
    assert [len(ids) for ids in output.table["nearest_ids"].to_pylist()] == [2] * 6, "no more pictures, no more ids"
    assert output.table["bank_agreement"].to_pylist()[1] is None, "nothing to agree with"


def test_only_voxels_with_a_direction_are_projected(tmp_path: Path) -> None:
    write_bank(tmp_path, (50,))
    rows = voxels(3)
    weight_VD = matrix(rows["weight"]).copy()
    weight_VD[1] = 0
    rows = rows.set_column(2, "weight", vectors(weight_VD, np.array([True, True, False])))
    rows = rows.set_column(1, "status", pa.array(["ok", "ok", "bad"]))
    output = stage(tmp_path)(rows)
    assert set(output.table["voxel_id"].to_pylist()) == {0}
    assert [(bad.key, "no direction" in bad.reason) for bad in output.bad] == [("subject=s, voxel_id=1", True)]


def test_a_chunk_without_a_usable_voxel_gives_no_rows(tmp_path: Path) -> None:
    write_bank(tmp_path, (50,))
    output = stage(tmp_path)(voxels(4, status="constant"))
    assert output.table.num_rows == 0 and output.table.schema.equals(projections_schema(DIM)) and not output.bad


def test_only_beta_and_the_number_of_neighbours_count(tmp_path: Path) -> None:
    plain = stage(tmp_path).fingerprint()
    assert stage(tmp_path, tile=9, chunk=3).fingerprint() == plain
    assert stage(tmp_path, beta=4).fingerprint() != plain
    assert stage(tmp_path, nearest=5).fingerprint() != plain
