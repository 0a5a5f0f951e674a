"""Imports: what one bank holds comes back from every layout; what does not belong in a bank is refused or counted."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from scuba_ray.bank.info import info
from scuba_ray.bank.layouts import Layout
from scuba_ray.bank.shards import BankFolder, open_bank, partition_of
from scuba_ray.banks import build_bank
from scuba_ray.cli import app
from scuba_ray.config import BackboneConfig, EngineConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.imports import import_bank
from scuba_ray.models.clip import make_backbone
from scuba_ray.stages.bank_import import REASONS
from scuba_ray.stages.cautions import of_bank
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.store import RunFolder
from tests.bank.test_layouts import WRITERS, write_clip_retrieval, write_npy, write_published
from tests.study import write_pictures

CLIP, JUDGE = (BackboneConfig(name=name, model=f"phantom:{name}") for name in ("clip", "judge"))
DIM, ROWS = 256, 90
LOCAL = EngineConfig(name="local")


def made(backbone: BackboneConfig = CLIP, seed: int = 0, rows: int = ROWS) -> np.ndarray:
    """Raw embeddings as a bank has them: float16, norms about 16."""
    return np.random.default_rng(seed).normal(size=(rows, make_backbone(backbone).dim)).astype(np.float16)


def imported(path: Path, out: Path, **options: Any) -> BankFolder:
    return import_bank(**{"path": str(path), "backbone": CLIP, "out": str(out), "engine": LOCAL, "chunk": 40, **options})


def table(bank: BankFolder, number: int = 0) -> Any:
    with bank.open(bank.shards[number]) as file:
        return file.read()


def by_id(bank: BankFolder) -> dict[str, tuple[np.ndarray, float]]:
    """Embedding and norm of every picture."""
    found = {}
    for number in range(len(bank.shards)):
        rows = table(bank, number)
        found |= dict(
            zip(rows["image_id"].to_pylist(), zip(matrix(rows["embedding"]), rows["norm"].to_pylist(), strict=True), strict=True)
        )
    assert len(found) == bank.rows
    return found


def sorted_rows(rows_KD: np.ndarray) -> np.ndarray:
    return rows_KD[np.lexsort(rows_KD.T)]


@pytest.mark.parametrize("layout", WRITERS)
def test_raw_embeddings_come_back_to_the_bit(layout: Layout, tmp_path: Path) -> None:
    known = made()
    bank = imported(WRITERS[layout](tmp_path / "in", known, (35, 1, 54)), tmp_path / "bank")
    tiles = list(bank.tiles(32))
    np.testing.assert_array_equal(sorted_rows(np.concatenate([one.embedding_KD for one in tiles])), sorted_rows(known))
    embedding_KD, norm_K = (np.concatenate([getattr(one, name) for one in tiles]) for name in ("embedding_KD", "norm_K"))
    np.testing.assert_allclose(norm_K, np.linalg.norm(embedding_KD.astype(np.float32), axis=1), rtol=1e-6)
    assert [shard.rows for shard in bank.shards] == [40, 40, 10]
    for number in range(3):
        rows = table(bank, number)
        order = list(zip(rows["partition"].to_pylist(), rows["image_id"].to_pylist(), strict=True))
        assert order == sorted(order) and [partition_of(name) for _, name in order] == [part for part, _ in order]
        assert set(rows["source"].to_pylist()) == {"in"} and set(rows["backbone"].to_pylist()) == {"clip"}


@pytest.mark.parametrize("how", ["constant", "file"])
@pytest.mark.parametrize("layout", WRITERS)
def test_unit_vectors_get_the_norm_that_is_stated(layout: Layout, how: str, tmp_path: Path) -> None:
    known = made().astype(np.float32)
    norm_K = np.linalg.norm(known, axis=1)
    folder = WRITERS[layout](tmp_path / "in", (known / norm_K[:, None]).astype(np.float16), (35, 1, 54))
    np.save(tmp_path / "norms.npy", norm_K)
    options = {"norm": 10.2} if how == "constant" else {"norms": str(tmp_path / "norms.npy")}
    wanted = known if how == "file" else known / norm_K[:, None] * 10.2
    bank = imported(folder, tmp_path / "bank", **options)
    got = np.concatenate([one.embedding_KD for one in bank.tiles(32)]).astype(np.float32)
    # the largest of 256 numbers is a few times the norm / 16: their float16 steps are what 1e-3 allows for
    np.testing.assert_allclose(sorted_rows(got.round(1))[:, 0].mean(), sorted_rows(wanted.round(1))[:, 0].mean(), rtol=1e-2)
    found = by_id(bank)
    for row, name in enumerate(names_in_order(layout)):
        embedding_D, norm = found[name]
        np.testing.assert_allclose(embedding_D.astype(np.float32), wanted[row], atol=1e-3 * np.linalg.norm(wanted[row]))
        assert norm == pytest.approx(np.linalg.norm(wanted[row]), rel=1e-6)
    assert info(bank.location)[0]["norms"] == ("file" if how == "file" else "constant 10.2")
    assert ["one stated norm (constant 10.2)" in said for said in of_bank(bank)] == [True] * (how == "constant")


def names_in_order(layout: Layout) -> list[str]:
    """Ids of 90 rows in arrays of 35, 1 and 54."""
    if layout == "clip-retrieval":
        return [f"pictures/{row}.jpg" for row in range(ROWS)]
    stem = "{:05}" if layout == "published" else "part{}"
    first = 898 if layout == "published" else 0
    return [f"{stem.format(first + array)}/{row}" for array, size in enumerate((35, 1, 54)) for row in range(size)]


def published_pool(folder: Path) -> np.ndarray:
    """The pool as BrainSCUBA's projection.py reads it: arrays without `idx` in their names, sorted, one after the other."""
    names = sorted(str(one) for one in folder.iterdir() if "idx" not in one.name)
    return np.concatenate([np.load(name) for name in names])


def test_the_published_pool_is_read_as_its_authors_do_without_what_could_not_be_read(tmp_path: Path) -> None:
    black = (0, 34, 35, 60)  # 35 is an array of its own
    folder = write_published(tmp_path / "in", made(), (35, 1, 54), unreadable=black)
    pool, index_K = published_pool(folder), np.concatenate([np.load(one) for one in sorted(folder.glob("*_idx.npy"))])
    bank = imported(folder, tmp_path / "bank")
    got = np.concatenate([one.embedding_KD for one in bank.tiles(1000)])
    np.testing.assert_array_equal(sorted_rows(got), sorted_rows(pool[index_K != -1]))
    bad = RunFolder(str(tmp_path / "bank")).quarantine()
    assert sorted(bad["key"].to_pylist()) == [f"image_id={name}" for name in ("00898/0", "00898/34", "00899/0", "00900/24")]
    assert set(bad["reason"].to_pylist()) == {REASONS["unreadable"]}
    statistics = [json.loads(table_metadata(bank, number)[b"statistics"]) for number in range(3)]
    assert sum((Counter(one["bad"]) for one in statistics), Counter()) == {"unreadable": 4}


def table_metadata(bank: BankFolder, number: int) -> dict[bytes, bytes]:
    with bank.open(bank.shards[number]) as file:
        return dict(file.schema_arrow.metadata)


def test_rows_without_a_direction_are_quarantined_with_the_reason(tmp_path: Path) -> None:
    rows_KD = made(rows=300).astype(np.float64)
    rows_KD[3, 5], rows_KD[4], rows_KD[5, 0], rows_KD[6] = np.nan, 0, 1e5, 1e-9
    bank = imported(write_npy(tmp_path / "in", rows_KD, (300,)), tmp_path / "bank", chunk=300)
    bad = {row["key"]: row["reason"] for row in RunFolder(str(tmp_path / "bank")).quarantine().to_pylist()}
    kinds = {3: "not finite", 4: "zero", 5: "beyond float16", 6: "beyond float16"}
    assert bad == {f"image_id=part0/{row}": REASONS[kind] for row, kind in kinds.items()}
    norm_K = np.concatenate([one.norm_K for one in bank.tiles(1000)])
    assert json.loads(table_metadata(bank, 0)[b"statistics"]) == {
        "pictures": 300,
        "rows": 296,
        "bad": {"not finite": 1, "zero": 1, "beyond float16": 2},
        "norm_mean": pytest.approx(norm_K.mean()),
        "norm_sd": pytest.approx(norm_K.std()),
        "partitions": np.bincount(next(iter(bank.tiles(1000))).partition_K, minlength=5).tolist(),
        "precision": "imported float64",
    }
    assert table_metadata(bank, 0)[b"norms"] == b"raw"


def test_rows_of_unit_vectors_that_are_none(tmp_path: Path) -> None:
    rows_KD = made(rows=4000).astype(np.float32)
    rows_KD /= np.linalg.norm(rows_KD, axis=1, keepdims=True)
    norm_K = np.full(4000, 10.0)
    rows_KD[1] *= 3  # not among the sampled rows
    norm_K[2], norm_K[5] = 0, np.nan
    np.save(tmp_path / "norms.npy", norm_K)
    bank = imported(
        write_npy(tmp_path / "in", rows_KD, (4000,)), tmp_path / "bank", norms=str(tmp_path / "norms.npy"), chunk=4000
    )
    bad = {row["key"]: row["reason"] for row in RunFolder(str(tmp_path / "bank")).quarantine().to_pylist()}
    kinds = {1: "not unit", 2: "no norm", 5: "no norm"}
    assert bad == {f"image_id=part0/{row}": REASONS[kind] for row, kind in kinds.items()}
    assert bank.rows == 3997


def test_unit_vectors_without_a_norm_are_refused_with_one_to_take(tmp_path: Path) -> None:
    known = made().astype(np.float32)
    unit = write_npy(tmp_path / "unit", known / np.linalg.norm(known, axis=1, keepdims=True), (ROWS,))
    with pytest.raises(ConfigError, match=r"the method.*`scuba bank build` .* gives the mean norm of clip"):
        imported(unit, tmp_path / "bank")
    imported(write_npy(tmp_path / "raw", known, (ROWS,)), tmp_path / "bank")
    mean = np.linalg.norm(known.astype(np.float16).astype(np.float32), axis=1).mean()
    with pytest.raises(ConfigError, match=rf"the 90 raw embeddings of clip in this bank have a mean norm of {mean:.4g}"):
        imported(unit, tmp_path / "bank")
    assert RunFolder(str(tmp_path / "bank")).keys("bank") == ["clip/raw"]


def test_another_backbones_embeddings_are_refused(tmp_path: Path) -> None:
    folder = write_npy(tmp_path / "in", made(), (ROWS,))
    np.save(tmp_path / "long.npy", np.ones((3, 512)))
    with pytest.raises(ConfigError, match=r"embeddings of 512 numbers, phantom:clip makes 256"):
        imported(tmp_path / "long.npy", tmp_path / "bank")
    imported(folder, tmp_path / "bank")
    clip, judge = make_backbone(CLIP), make_backbone(JUDGE)
    with pytest.raises(
        ConfigError, match=rf"was made with clip \({clip.fingerprint}\), this run reads judge \({judge.fingerprint}\)"
    ):
        open_bank(str(tmp_path / "bank"), judge)


def test_collections_side_by_side(tmp_path: Path) -> None:
    """Two imports with other ids are one bank; the same ids, or another source of the same name, are refused."""
    one, two = (write_npy(tmp_path / name, made(seed=seed), (ROWS,)) for seed, name in enumerate(("one", "two")))
    imported(one, tmp_path / "bank")
    with pytest.raises(ConfigError, match=r"has a picture 'part0/0' already, in another collection; .*--prefix"):
        imported(two, tmp_path / "bank")
    with pytest.raises(ConfigError, match=r"the collection one .* is made of other embeddings; .*--collection"):
        imported(two, tmp_path / "bank", collection="one")
    bank = imported(two, tmp_path / "bank", prefix="two/")
    assert (bank.keys, bank.rows) == (("clip/one", "clip/two"), 180)
    assert {"part0/0", "two/part0/0"} < set(by_id(bank))
    assert imported(one, tmp_path / "bank").rows == 180  # again: nothing to do


def test_a_collection_that_was_built_from_pictures_is_left_alone(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 5, 0, "p")
    build_bank(images=str(tmp_path / "in"), backbone=CLIP, out=str(tmp_path / "bank"), engine=LOCAL)
    folder = write_npy(tmp_path / "arrays" / "in", made(), (ROWS,))
    with pytest.raises(ConfigError, match=r"the collection in .* is made of pictures embedded by `scuba bank build`"):
        imported(folder, tmp_path / "bank")
    assert imported(folder, tmp_path / "bank", collection="more").rows == ROWS + 5
    with pytest.raises(ConfigError, match=r"a collection more, and its embeddings were imported; .*--collection"):
        build_bank(images=str(tmp_path / "in"), backbone=CLIP, out=str(tmp_path / "bank"), engine=LOCAL, collection="more")
    assert [(one["rows"], one["norms"]) for one in info(str(tmp_path / "bank"))] == [(ROWS + 5, "raw")]


def test_ids_that_a_stopped_build_is_about_to_embed_are_taken(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 5, 0, "p")
    build_bank(images=str(tmp_path / "in"), backbone=CLIP, out=str(tmp_path / "bank"), engine=LOCAL)
    shutil.rmtree(tmp_path / "bank" / "bank")
    folder = write_clip_retrieval(tmp_path / "arrays", made(rows=5), (5,), key=[f"p000{row}.png" for row in range(5)])
    with pytest.raises(ConfigError, match=r"has a picture 'p0000.png' already"):
        imported(folder, tmp_path / "bank")
    assert imported(folder, tmp_path / "bank", prefix="a/").rows == 5


def test_an_id_given_twice_is_named(tmp_path: Path) -> None:
    keys = [f"{row}" for row in range(ROWS)]
    keys[70] = "12"
    folder = write_clip_retrieval(tmp_path / "in", made(), (35, 55), key=keys)
    with pytest.raises(DataError, match=r"the image id '12' is given to two rows"):
        imported(folder, tmp_path / "bank")


def test_resumes_by_shard_and_makes_again_what_a_setting_changes(tmp_path: Path) -> None:
    known = made().astype(np.float32)
    folder = write_npy(tmp_path / "in", known / np.linalg.norm(known, axis=1, keepdims=True), (ROWS,))
    first = imported(folder, tmp_path / "bank", norm=10.0)
    before = {shard.name: shard.sha256 for shard in first.shards}
    lost = tmp_path / "bank" / "bank" / first.shards[0].name
    lost.unlink()
    again = imported(folder, tmp_path / "bank", norm=10.0)
    assert {shard.name: shard.sha256 for shard in again.shards} == before
    steps = RunFolder(str(tmp_path / "bank")).read_run_json()["steps"]
    assert steps["bank-import clip/in"]["computed_chunks"] == 1
    other = imported(folder, tmp_path / "bank", norm=11.0)
    assert not set(before) & {shard.name for shard in other.shards}
    np.save(folder / "part1.npy", (known / np.linalg.norm(known, axis=1, keepdims=True))[:10])  # the folder grew
    assert imported(folder, tmp_path / "bank", norm=11.0).rows == 100


@pytest.mark.slow
def test_both_engines_write_the_same_shards(tmp_path: Path) -> None:
    folder = write_clip_retrieval(tmp_path / "in", made(), (35, 1, 54))
    local = imported(folder, tmp_path / "local")
    ray = imported(folder, tmp_path / "ray", engine=EngineConfig(name="ray", max_workers=2))
    assert [shard.sha256 for shard in local.shards] == [shard.sha256 for shard in ray.shards]


def test_the_command(tmp_path: Path) -> None:
    known = made().astype(np.float32)
    folder = write_npy(tmp_path / "in", known / np.linalg.norm(known, axis=1, keepdims=True), (ROWS,))
    arguments = [
        "bank",
        "import",
        str(folder),
        "--backbone",
        "phantom:clip",
        "--out",
        str(tmp_path / "bank"),
        "--engine",
        "local",
    ]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2 and "CLIPCap was trained on" in refused.stderr
    done = CliRunner().invoke(app, [*arguments, "--norm", "10", "--collection", "laion"])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'bank'}\n")
    assert open_bank(str(tmp_path / "bank"), make_backbone(CLIP)).collections == ("laion",)
