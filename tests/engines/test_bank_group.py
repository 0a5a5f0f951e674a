"""Holders that answer without writing: what a service asks of them, and what it is told when they are lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ray

from scuba_ray.actors.bank_group import BankGroup
from scuba_ray.config import EngineConfig
from scuba_ray.core.tree import Forest
from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.protocols import Chunk
from tests.engines.gather_samples import Sums, drawn

pytestmark = pytest.mark.usefixtures("connected")


def sums(numbers: range) -> np.ndarray:
    forest = Forest(np.add)
    for segment in range(7):
        forest.add((0, segment), drawn(list(numbers), segment, 16))
    return forest.fold()


def group_of(stage: Sums, holders: int, retries: int = 1) -> BankGroup:
    return BankGroup(EngineConfig(min_workers=holders, max_workers=holders, retries=retries), stage)


@pytest.mark.parametrize("holders", [1, 3])
def test_rows_come_back_and_a_lost_holder_is_replaced(tmp_path: Path, holders: int) -> None:
    stage = Sums(tmp_path / "calls")
    group = group_of(stage, holders)
    try:
        for lost in (False, True):
            if lost:
                ray.kill(group._actors[0], no_restart=False)
            output = group.answer(stage, stage.read(Chunk(0, 11, 16)))
            assert output.table["voxel_id"].to_pylist() == [11, 12, 14, 15] and [bad.key for bad in output.bad] == ["voxel_id=13"]
            wanted = sums(range(11, 16))[[0, 1, 3, 4]]
            np.testing.assert_array_equal(np.stack(output.table["vector"].to_pylist()), wanted)
    finally:
        group.end()


def test_what_goes_wrong_is_told_as_what_it_is(tmp_path: Path) -> None:
    rows = Sums(tmp_path).read(Chunk(0, 0, 2))
    for faults, kind, words in (
        ({"hold": "config"}, ConfigError, "must not be seven"),
        ({"finish 0": "broken"}, WorkerError, "sum failed on chunk 0.*no sums today"),
    ):
        stage = Sums(tmp_path / kind.__name__, faults)
        group = group_of(stage, 1)
        try:
            with pytest.raises(kind, match=words):
                group.answer(stage, rows)
        finally:
            group.end()


def test_holders_lost_for_good_are_said_to_be(tmp_path: Path) -> None:
    stage = Sums(tmp_path / "calls")
    group = group_of(stage, 2)
    group.end()
    with pytest.raises(WorkerError, match="lost more often than they are replaced"):
        group.answer(stage, stage.read(Chunk(0, 0, 2)))
