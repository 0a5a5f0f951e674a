"""project by index: no voxel above the tolerance but exact ones, and those are the exact projection's own rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from scuba_ray.bank.index import Kind, info_of
from scuba_ray.bank.index_build import build_index
from scuba_ray.bank.shards import BankFolder, banks_at
from scuba_ray.config import ProjectConfig
from scuba_ray.core.tree import Forest
from scuba_ray.core.vectors import cosine
from scuba_ray.errors import ConfigError
from scuba_ray.pipeline import run
from scuba_ray.protocols import Chunk, Resources
from scuba_ray.stages.audit_index import SAMPLE, AuditIndex, sampled
from scuba_ray.stages.project import Project
from scuba_ray.stages.project_index import ProjectIndex, check_index
from scuba_ray.tables.columns import matrix, table_of, vectors
from scuba_ray.tables.schemas import AUDITS, projections_schema
from scuba_ray.tables.store import RunFolder
from tests.bank.test_shards import Named, write_bank
from tests.study import TinyStudy

pytest.importorskip("faiss")
NETWORK = Named(dim=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bank")
    write_bank(place, (1500, 0, 1500), NETWORK)
    return place


def bank(folder: Path) -> BankFolder:
    return BankFolder(str(folder), "small", ("small",))


def stages(folder: Path, **settings: object) -> tuple[ProjectIndex, Project]:
    defaults = {"method": "index", "beta": 40, "nearest": 4, "candidates": 400, "tolerance": 1e-3}
    config = ProjectConfig.model_validate(defaults | settings)
    space = {"subject": "s", "backbone": "small", "dim": 32, "run": RunFolder(str(folder)), "resources": Resources()}
    exact = Project(bank=bank(folder), settings=config, **space)
    return ProjectIndex(exact=exact, info=info_of(exact.bank), resources=Resources()), exact


def voxels(count: int = 40) -> pa.Table:
    weight_VD = np.random.default_rng(3).normal(size=(count, 32)).astype(np.float32)
    weight_VD[2] = 0
    status = ["bad" if voxel == 1 else "ok" for voxel in range(count)]
    return pa.table({"voxel_id": np.arange(count)[::-1], "status": status, "weight": vectors(weight_VD)})


def exactly(stage: Project, rows: pa.Table) -> pa.Table:
    asked, forest = stage.question(rows), Forest(stage.merge)
    for node, state in stage.hold(0, stage.segments).answer([asked])[0].items():
        forest.add(node, state)
    return stage.finish(asked, forest.fold()).table


@pytest.mark.parametrize("kind", ["flat", "ivf-flat", "ivf-pq"])
def test_rows_are_certified_estimated_or_exact(folder: Path, kind: str) -> None:
    build_index(bank(folder), kind=kind, memory_gib=4e-5)
    tolerance = 1e-3 if kind == "flat" else 1 - info_of(bank(folder)).recall_10 + 0.05
    by_index, exact = stages(folder, tolerance=tolerance, beta={"flat": 40, "ivf-flat": 22, "ivf-pq": 15}[kind])
    output, wanted = by_index(voxels()), exactly(exact, voxels())
    table = output.table
    assert table.schema.equals(projections_schema(32))
    assert table.select(["voxel_id", "partition"]).equals(wanted.select(["voxel_id", "partition"]))
    assert [bad.key for bad in output.bad] == ["subject=s, voxel_id=37"]
    missing, certainty = table["missing_mass"].to_numpy(), np.array(table["certainty"].to_pylist())
    close = {"flat": "certified"}.get(kind, "estimated")
    assert set(certainty) == {"exact", close}, "this beta has voxels of both sorts"
    assert (missing <= tolerance).all() and (missing[certainty == "exact"] == 0).all() and (missing[certainty == close] > 0).all()
    by_voxel = {voxel: set(certainty[table["voxel_id"].to_numpy() == voxel]) for voxel in table["voxel_id"].to_pylist()}
    assert all(len(found) == 1 for found in by_voxel.values()), "a voxel falls back as a whole"
    cosines = cosine(torch.tensor(matrix(table["embedding"])), torch.tensor(matrix(wanted["embedding"]))).numpy()
    assert (cosines[certainty == "exact"] > 1 - 1e-6).all()
    if kind == "flat":
        assert (cosines > 1 - 1e-6).all()
        assert table["nearest_ids"].equals(wanted["nearest_ids"])
        half_agreement = [of["half_agreement"].to_numpy() for of in (table, wanted)]
        np.testing.assert_allclose(*half_agreement, atol=1e-3)


@pytest.mark.parametrize("beta", [0.5, 10.0, 60.0, 150.0])
@pytest.mark.parametrize("candidates", [4, 50, 1000, 2048])
def test_a_flat_index_never_returns_a_voxel_that_misses_more_than_the_tolerance(
    folder: Path, beta: float, candidates: int
) -> None:
    build_index(bank(folder), kind="flat")
    by_index, exact = stages(folder, beta=beta, candidates=candidates, tolerance=0.01)
    table, rows = by_index(voxels(20)).table, voxels(20)
    question = exact.question(rows)
    embedding_KD = np.concatenate([tile.embedding_KD for tile in exact.bank.tiles(9999)]).astype(np.float64)
    partition_K = np.concatenate([tile.partition_K for tile in exact.bank.tiles(9999)])
    cos_VK = question.direction_VD @ (embedding_KD / np.linalg.norm(embedding_KD, axis=1, keepdims=True)).T
    kept_VK = cos_VK >= np.sort(cos_VK, axis=1)[:, -candidates][:, None]
    for row in table.select(["voxel_id", "partition", "missing_mass", "certainty"]).to_pylist():
        voxel = question.voxel_V.tolist().index(row["voxel_id"])
        mine_K = partition_K == row["partition"] if row["partition"] >= 0 else np.ones(len(partition_K), bool)
        p_K = np.exp(beta * (cos_VK[voxel] - cos_VK[voxel][mine_K].max())) * mine_K
        missing = 0.0 if row["certainty"] == "exact" else (p_K * ~kept_VK[voxel]).sum() / p_K.sum()
        assert missing <= row["missing_mass"] + 1e-9
        assert row["missing_mass"] <= 0.01


@pytest.mark.parametrize("kind", ["flat", "ivf-flat"])
def test_an_audit_says_what_is_really_missing(folder: Path, kind: str) -> None:
    build_index(bank(folder), kind=kind)
    by_index, exact = stages(folder, tolerance=0.9)
    rows = voxels(20)
    audit = AuditIndex(projected=by_index, voxels=tuple(range(20)), resources=Resources())(rows).table
    assert audit.schema.equals(AUDITS)
    table, wanted = by_index(rows).table, exactly(exact, rows)
    assert audit.select(["voxel_id", "partition"]).equals(table.select(["voxel_id", "partition"]))
    np.testing.assert_allclose(audit["missing_mass"], table["missing_mass"], rtol=1e-5)
    cosines = cosine(torch.tensor(matrix(table["embedding"])), torch.tensor(matrix(wanted["embedding"]))).numpy()
    np.testing.assert_allclose(audit["cosine"], cosines, atol=1e-5)
    stated, true = (audit[name].to_numpy() for name in ("missing_mass", "true_missing_mass"))
    if kind == "flat":
        assert (true <= stated + 5e-5).all(), "but for the rounding of masses in float32"
    else:
        assert (true > stated).any(), "only an exact index bounds"
        assert np.corrcoef(true, cosines)[0, 1] < -0.5, "the more is missing, the less alike"


def test_the_recall_of_an_index_is_part_of_what_it_may_miss(folder: Path) -> None:
    info = build_index(bank(folder), kind="ivf-flat")
    assert info.recall_10 < 0.99
    table = stages(folder)[0](voxels()).table
    assert set(table["certainty"].to_pylist()) == {"exact"}
    estimated = stages(folder, tolerance=0.99)[0](voxels()).table
    assert (estimated["missing_mass"].to_numpy() >= 1 - info.recall_10 - 1e-6).all()


def test_only_voxels_with_an_estimate_are_sampled_for_the_audit(tmp_path: Path) -> None:
    folder, certainty = RunFolder(str(tmp_path)), ["exact", "estimated"]
    unit = folder.begin(step="project", table="projections", key="s/small", fingerprint="f" * 64)
    columns = {
        "subject": "s",
        "backbone": "small",
        "voxel_id": np.repeat(np.arange(200), 2),
        "partition": np.tile([0, -1], 200),
        "embedding": vectors(np.zeros((400, 32), np.float32)),
        "certainty": [certainty[voxel % 2] for voxel in range(200) for _ in range(2)],
    }
    unit.write(Chunk(0, 0, 200), table_of(projections_schema(32), columns))
    folder.finish(unit, [Chunk(0, 0, 200)])
    found = sampled(folder, "s/small", seed=4)
    assert len(found) == SAMPLE == len(set(found)) and all(voxel % 2 for voxel in found)
    assert found == sampled(folder, "s/small", seed=4) != sampled(folder, "s/small", seed=5)


def test_blocks_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(bank(folder), kind="flat")
    one = stages(folder)[0](voxels()).table
    monkeypatch.setattr("scuba_ray.stages.project_index.BLOCK_BYTES", 400 * 32 * 4 * 7)
    two = stages(folder)[0](voxels()).table
    assert (
        one.drop(["embedding"])
        .select(["voxel_id", "partition", "certainty", "nearest_ids"])
        .equals(two.select(["voxel_id", "partition", "certainty", "nearest_ids"]))
    )
    np.testing.assert_allclose(matrix(one["embedding"]), matrix(two["embedding"]), rtol=1e-4, atol=1e-6)


def test_a_chunk_without_a_usable_voxel_gives_no_rows(folder: Path) -> None:
    build_index(bank(folder), kind="flat")
    rows = voxels(4)
    output = stages(folder)[0](rows.set_column(1, "status", pa.array(["constant"] * 4)))
    assert output.table.num_rows == 0 and output.table.schema.equals(projections_schema(32)) and not output.bad


def test_what_decides_the_result_is_in_the_fingerprint(folder: Path) -> None:
    build_index(bank(folder), kind="flat")
    plain = stages(folder)[0].fingerprint()
    assert stages(folder, tile=9, chunk=3)[0].fingerprint() == plain
    for change in ({"beta": 4}, {"candidates": 401}, {"tolerance": 0.5}, {"nearest": 5}):
        assert stages(folder, **change)[0].fingerprint() != plain
    build_index(bank(folder), kind="ivf-flat")
    assert stages(folder)[0].fingerprint() != plain


def test_settings_that_cannot_work_are_refused_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    settings = ProjectConfig.model_validate({"method": "index"})
    with pytest.raises(ConfigError, match=r"scuba bank build.*scuba bank index.*bank\.path"):
        check_index(None, settings)
    with pytest.raises(ConfigError, match=r"candidates \(10\) must be at least project.nearest \(64\)"):
        check_index(bank(folder), settings.model_copy(update={"candidates": 10}))
    write_bank(tmp_path, (30,), NETWORK)
    with pytest.raises(ConfigError, match="has no index for small: build one with `scuba bank index"):
        check_index(bank(tmp_path), settings)


@pytest.mark.parametrize(("kind", "tolerance", "said"), [("flat", 1e-9, "fell back"), ("ivf-flat", 0.9, "really missing")])
def test_a_run_by_index_says_what_fell_back_and_what_the_audit_found(
    own_study: TinyStudy, tmp_path: Path, kind: Kind, tolerance: float, said: str
) -> None:
    own = run(own_study.config(out=str(tmp_path / "exact")))
    build_index(banks_at(own.location)[0], kind=kind)
    project = {"method": "index", "candidates": 16, "nearest": 4, "tolerance": tolerance, "beta": 60.0}
    config = own_study.config(out=str(tmp_path / "index"), project=project, bank={"path": own.location})
    by_index = run(config)
    assert said in " ".join(by_index.read_run_json()["warnings"])
    assert by_index.read("captions").num_rows == own.read("captions").num_rows
    again = run(config)
    assert by_index.read_run_json()["warnings"] == again.read_run_json()["warnings"]
    assert {step["computed_chunks"] for step in again.read_run_json()["steps"].values() if "computed_chunks" in step} == {0}
