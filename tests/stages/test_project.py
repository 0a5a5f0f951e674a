"""project's own promises, beside the one-shot formula that whole runs are held against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import normalize

from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import ProjectConfig
from scuba_ray.core.tree import Forest
from scuba_ray.protocols import Resources, StageOutput
from scuba_ray.stages import project
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


def projected(stage: Project, rows: pa.Table, *runs: tuple[int, int]) -> StageOutput:
    """As an engine would, with a holder for each run of segments."""
    question = stage.question(rows)
    forest = Forest(stage.merge)
    for first, stop in runs or [(0, stage.segments)]:
        for node, state in stage.hold(first, stop).answer([question])[0].items():
            forest.add(node, state)
    return stage.finish(question, forest.fold())


def voxels(count: int = 7, status: str = "ok") -> pa.Table:
    weight_VD = np.random.default_rng(3).normal(size=(count, DIM)).astype(np.float32)
    return pa.table({"voxel_id": np.arange(count), "status": [status] * count, "weight": vectors(weight_VD)})


@pytest.mark.parametrize("tile", [1, 5, 64, 10_000])
def test_tiles_and_shards_change_nothing(tmp_path: Path, tile: int) -> None:
    write_bank(tmp_path, (40, 3, 0, 57))
    one = projected(stage(tmp_path), voxels()).table
    two = projected(stage(tmp_path, tile=tile), voxels()).table
    np.testing.assert_allclose(matrix(one["embedding"]), matrix(two["embedding"]), rtol=1e-5, atol=1e-7)
    assert one["nearest_ids"].equals(two["nearest_ids"])


def test_a_partition_without_pictures_has_no_row(tmp_path: Path) -> None:
    write_bank(tmp_path, (2,))
    output = projected(stage(tmp_path), voxels(3))
    assert output.table.schema.equals(projections_schema(DIM))
    assert output.table["partition"].to_pylist() == [3, -1] * 3, "image0 and image1 are both in partition 3"
    assert [len(ids) for ids in output.table["nearest_ids"].to_pylist()] == [2] * 6, "no more pictures, no more ids"
    assert output.table["bank_agreement"].to_pylist()[1] is None, "nothing to agree with"
    assert output.table["half_agreement"].to_pylist() == [None] * 6, "one partition cannot be halved"


def test_only_voxels_with_a_direction_are_projected(tmp_path: Path) -> None:
    write_bank(tmp_path, (50,))
    rows = voxels(3)
    weight_VD = matrix(rows["weight"]).copy()
    weight_VD[1] = 0
    rows = rows.set_column(2, "weight", vectors(weight_VD, np.array([True, True, False])))
    rows = rows.set_column(1, "status", pa.array(["ok", "ok", "bad"]))
    output = projected(stage(tmp_path), rows)
    assert set(output.table["voxel_id"].to_pylist()) == {0}
    assert [(bad.key, "no direction" in bad.reason) for bad in output.bad] == [("subject=s, voxel_id=1", True)]


def test_a_chunk_without_a_usable_voxel_gives_no_rows(tmp_path: Path) -> None:
    write_bank(tmp_path, (50,))
    output = projected(stage(tmp_path), voxels(4, status="constant"))
    assert output.table.num_rows == 0 and output.table.schema.equals(projections_schema(DIM)) and not output.bad


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "SEGMENT", 16)


@pytest.mark.usefixtures("small_segments")
def test_holders_and_streaming_change_nothing_to_the_last_bit(tmp_path: Path) -> None:
    write_bank(tmp_path, (40, 3, 0, 57, 11))
    whole = projected(stage(tmp_path), voxels()).table
    assert stage(tmp_path).segments == 7
    for runs in ([(0, 1), (1, 7)], [(4, 7), (0, 4)], [(5, 7), (2, 3), (3, 5), (0, 2)]):
        assert projected(stage(tmp_path), voxels(), *runs).table.equals(whole)
        assert projected(stage(tmp_path, hold_gib=0), voxels(), *runs).table.equals(whole)


@pytest.mark.usefixtures("small_segments")
def test_several_questions_are_answered_as_each_alone(tmp_path: Path) -> None:
    write_bank(tmp_path, (100,))
    own = stage(tmp_path)
    asked = [voxels(3), voxels(4, status="constant"), voxels(9)]
    questions = [own.question(rows) for rows in asked]
    answers = own.hold(0, own.segments).answer(questions)
    for rows, question, nodes in zip(asked, questions, answers, strict=True):
        forest = Forest(own.merge)
        for node, state in nodes.items():
            forest.add(node, state)
        assert own.finish(question, forest.fold()).table.equals(projected(own, rows).table)


@pytest.mark.usefixtures("small_segments")
def test_who_is_asked_about_with_a_voxel_changes_nothing_to_the_last_bit(tmp_path: Path) -> None:
    write_bank(tmp_path, (40, 3, 0, 57, 11))
    own = stage(tmp_path)
    together = projected(own, voxels(75)).table
    for start, count in [(0, 1), (1, 2), (3, 7), (10, 17), (27, 33), (42, 33)]:
        alone = projected(own, voxels(75).slice(start, count)).table
        asked = pa.compute.is_in(together["voxel_id"], value_set=pa.array(range(start, start + count)))
        assert alone.equals(together.filter(asked).combine_chunks()), (start, count)


@pytest.mark.usefixtures("small_segments")
def test_projections_are_the_one_shot_formula(tmp_path: Path) -> None:
    embedding_KD = torch.tensor(write_bank(tmp_path, (40, 3, 57))).double()
    table = projected(stage(tmp_path), voxels()).table
    whole = table.filter(pa.compute.equal(table["partition"], -1))
    unit_KD = normalize(embedding_KD, dim=1)
    direction_VD = normalize(torch.tensor(matrix(voxels()["weight"])).double(), dim=1)
    p_VK = torch.softmax(3 * direction_VD @ unit_KD.T, dim=1)
    expected_VD = normalize(p_VK @ unit_KD, dim=1) * (p_VK @ embedding_KD.norm(dim=1))[:, None]
    np.testing.assert_allclose(matrix(whole["embedding"]), expected_VD, rtol=1e-3, atol=1e-5)
    nearest = [[f"image{row}" for row in rows] for rows in (direction_VD @ unit_KD.T).topk(4).indices.tolist()]
    assert whole["nearest_ids"].to_pylist() == nearest
    halves = table["half_agreement"].to_numpy().reshape(7, -1)
    assert (halves == halves[:, :1]).all() and (abs(halves) < 1).all() and len(set(halves[:, 0])) == 7


def test_ids_of_banks_too_large_to_keep_are_read_from_their_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bank(tmp_path, (40, 3, 0, 57))
    kept = projected(stage(tmp_path), voxels()).table
    monkeypatch.setattr("scuba_ray.bank.ids.HELD_ROWS", 10)
    assert projected(stage(tmp_path), voxels()).table.equals(kept)


def test_chunks_of_one_pass_have_room(tmp_path: Path) -> None:
    write_bank(tmp_path, (40,))
    few, many = stage(tmp_path, chunk=4096), stage(tmp_path, chunk=1)
    assert 1 <= few.together < many.together
    assert stage(tmp_path, chunk=10**9).together == 1


def test_what_is_held_is_named_by_bank_and_settings_not_by_subject(tmp_path: Path) -> None:
    write_bank(tmp_path, (40,))
    own = stage(tmp_path)
    assert replace(own, subject="another").held == own.held
    assert stage(tmp_path, beta=4).held != own.held
    assert replace(own, device="cuda").held != own.held


def test_only_beta_neighbours_and_arithmetic_count(tmp_path: Path) -> None:
    plain = stage(tmp_path).fingerprint()
    assert stage(tmp_path, tile=9, chunk=3).fingerprint() == plain
    assert stage(tmp_path, beta=4).fingerprint() != plain
    assert stage(tmp_path, nearest=5).fingerprint() != plain
    assert replace(stage(tmp_path), settings=ProjectConfig(beta=3, nearest=4, scores="bfloat16")).fingerprint() != plain
