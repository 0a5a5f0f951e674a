"""The nearest pictures of all voxels, each once, with what the bank knows of them, however the shards are cut."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scuba_ray.tables.schemas import nearest_pictures_schema
from tests.stages.lavca_steps import nearest, steps_of
from tests.stages.pictured import DIM, KEY, NAME, write_world


@pytest.mark.parametrize(("shard", "chunk"), [(20, 1), (7, 3), (500, 1)])
@pytest.mark.parametrize("pictures", [1, 12, 64])
def test_each_once_as_the_bank_has_it(tmp_path: Path, shard: int, chunk: int, pictures: int) -> None:
    bank = write_world(tmp_path, voxels=["dog", "car", "dog car", "boat"], shard=shard)
    steps = steps_of(tmp_path)
    result = nearest(steps, bank, pictures=pictures, chunk=chunk)
    found = steps.run.read("nearest_pictures", key=NAME)
    projections = steps.run.read("projections", key=KEY)
    whole = projections.filter(pc.equal(projections["partition"], -1))["nearest_ids"].to_pylist()
    wanted = {one for ids in whole for one in ids[:pictures]}
    assert result.rows == len(wanted) and set(found["image_id"].to_pylist()) == wanted
    assert found.schema.equals(nearest_pictures_schema(DIM))
    every = steps.run.read("bank")
    same = every.filter(pc.is_in(every["image_id"], value_set=pa.array(sorted(wanted)))).drop(["partition"])
    assert found.sort_by("image_id").equals(same.sort_by("image_id").select(found.column_names))


def test_voxels_added_later_bring_their_pictures(tmp_path: Path) -> None:
    bank = write_world(tmp_path, voxels=["dog"])
    steps = steps_of(tmp_path)
    assert nearest(steps, bank, pictures=3).fingerprint != nearest(steps, bank, pictures=4).fingerprint
    assert steps.run.rows("nearest_pictures", NAME) == 4
