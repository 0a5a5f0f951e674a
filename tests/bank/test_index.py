"""An index beside a bank: right neighbours, the recall it states, no answer for another state of the bank or a damaged file."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scuba_ray.bank import index_build
from scuba_ray.bank.index import BankIndex, describe, info_of, names_of, stem
from scuba_ray.bank.index_build import build_index, exact_nearest, like_voxels, plan
from scuba_ray.bank.shards import BankFolder
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables import lock
from tests.bank.test_shards import Named, write_bank

pytest.importorskip("faiss")
NETWORK = Named(dim=16)
KINDS = ["flat", "ivf-flat", "ivf-pq"]


def bank_in(folder: Path, sizes: tuple[int, ...] = (700, 0, 900)) -> BankFolder:
    write_bank(folder, sizes, NETWORK)
    return BankFolder(str(folder), "small", ("small",))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> BankFolder:
    return bank_in(tmp_path_factory.mktemp("bank"))


def units(bank: BankFolder) -> np.ndarray:
    rows_KD = np.concatenate([tile.embedding_KD for tile in bank.tiles(500)]).astype(np.float64)
    return rows_KD / np.linalg.norm(rows_KD, axis=1, keepdims=True)


def test_a_flat_index_finds_the_nearest_rows(bank: BankFolder) -> None:
    info = build_index(bank, kind="flat")
    query_QD = like_voxels(bank, 20, seed=5)
    cos_Qk, row_Qk = BankIndex(bank).nearest(query_QD, 30)
    true_QK = query_QD @ units(bank).T
    np.testing.assert_array_equal(row_Qk, np.argsort(-true_QK, axis=1)[:, :30])
    np.testing.assert_allclose(cos_Qk, -np.sort(-true_QK, axis=1)[:, :30], atol=1e-6)
    assert row_Qk.dtype == np.int64 and info.exact and info.recall_10 == 1 and info.queries == 0


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_norms_and_partitions_are_the_banks(bank: BankFolder, kind: str) -> None:
    build_index(bank, kind=kind)
    index, rows = BankIndex(bank), np.array([0, 3, 699, 700, 1599])
    np.testing.assert_allclose(index.vectors(rows), units(bank)[rows], atol=1e-6)
    np.testing.assert_array_equal(index.norms, np.concatenate([tile.norm_K for tile in bank.tiles(500)]))
    np.testing.assert_array_equal(index.partitions, np.concatenate([tile.partition_K for tile in bank.tiles(500)]))


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-pq"])
def test_what_is_stated_of_an_approximate_index_is_so(bank: BankFolder, kind: str) -> None:
    info = build_index(bank, kind=kind, seed=3)
    query_QD = like_voxels(bank, info.queries, seed=3)
    truth_Qk, found_Qk = exact_nearest(bank, query_QD, 10), BankIndex(bank).nearest(query_QD, 10)[1]
    recall = np.mean([len(set(found) & set(truth)) / 10 for found, truth in zip(found_Qk, truth_Qk, strict=True)])
    assert info.recall_10 == pytest.approx(recall)
    assert info.recall_10 >= index_build.RECALL or info.scanned > 0.75 * index_build.SCANNED, "it gave up early"
    assert 0 < info.scanned <= index_build.SCANNED and 0 < info.probes < info.lists


def test_more_is_asked_for_than_there_is(tmp_path: Path) -> None:
    bank = bank_in(tmp_path, (5,))
    build_index(bank)
    cos_Qk, row_Qk = BankIndex(bank).nearest(like_voxels(bank, 2, 0), 8)
    assert (row_Qk[:, 5:] == -1).all() and np.isnan(cos_Qk[:, 5:]).all()
    assert (np.sort(row_Qk[:, :5], axis=1) == np.arange(5)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bank_and_seed_make_the_same_index(bank: BankFolder, kind: str) -> None:
    query_QD = like_voxels(bank, 30, seed=1)
    found = []
    for _ in range(2):
        info = build_index(bank, kind=kind, seed=7)
        found.append((replace(info, seconds=0), BankIndex(bank).nearest(query_QD, 5)[1].tolist()))
    assert found[0] == found[1]
    assert not np.array_equal(like_voxels(bank, 30, seed=2), query_QD)


def test_the_kind_follows_from_size_and_memory() -> None:
    assert plan(100_000, 512).kind == "flat"
    middle = plan(2_000_000, 512)
    assert (middle.kind, middle.lists) == ("ivf-flat", 5656)
    large = plan(100_000_000, 512)
    assert (large.kind, large.code_bytes) == ("ivf-pq", 128)
    assert large.lists <= index_build.TRAINING_ROWS // index_build.POINTS_PER_LIST
    assert plan(5000, 256, kind="ivf-flat").lists == 128
    with pytest.raises(ConfigError, match="--memory-gib more"):
        plan(100_000_000, 512, memory_gib=1)
    with pytest.raises(ConfigError, match="at least 256 rows to train on, the bank has 200; use --kind flat"):
        plan(200, 512, kind="ivf-pq")


def test_an_index_for_another_state_of_the_bank_is_refused(tmp_path: Path) -> None:
    bank = bank_in(tmp_path)
    with pytest.raises(ConfigError, match="has no index for small: build one with `scuba bank index"):
        info_of(bank)
    assert describe(bank) is None
    build_index(bank, kind="flat")
    assert (describe(bank) or {})["present"]
    grown = bank_in(tmp_path, (700, 0, 901))
    with pytest.raises(ConfigError, match=r"built for another state of the bank: run `scuba bank index .*` again"):
        BankIndex(grown)
    stated = describe(grown)
    assert stated is not None and stated["rows"] == 1600 and not stated["present"]
    build_index(grown, kind="flat")
    assert len(list((tmp_path / "index").iterdir())) == 4, "the old one is gone"
    assert names_of(str(tmp_path), "smaller") == names_of(str(tmp_path), "smal") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other bytes"])
def test_a_damaged_index_is_a_data_error(tmp_path: Path, kind: str, damage: str) -> None:
    bank = bank_in(tmp_path)
    build_index(bank, kind=kind)
    path = tmp_path / f"{stem(bank)}.faiss"
    data = path.read_bytes()
    damaged = {"cut": data[: len(data) // 2], "empty": b"", "other bytes": bytes(byte ^ 255 for byte in data[:64]) + data[64:]}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"index file .*faiss is damaged: .*run scuba bank index again"):
        BankIndex(bank).nearest(like_voxels(bank, 2, 0), 3)


def test_damaged_columns_and_descriptions_are_data_errors(tmp_path: Path) -> None:
    bank = bank_in(tmp_path)
    build_index(bank, kind="flat")
    np.save(tmp_path / f"{stem(bank)}.norms.npy", np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"norms.npy is damaged: float32 of shape \(3,\)"):
        _ = BankIndex(bank).norms
    (tmp_path / f"{stem(bank)}.partitions.npy").write_bytes(b"\x80no array")
    with pytest.raises(DataError, match=r"partitions\.npy is damaged"):
        _ = BankIndex(bank).partitions
    description = tmp_path / f"{stem(bank)}.json"
    description.write_text(json.dumps({"kind": "flat"}))
    with pytest.raises(DataError, match="does not describe an index"):
        info_of(bank)


def test_a_missing_faiss_says_which_extra_to_install(bank: BankFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(bank, kind="flat")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'scuba-ray\[cpu\]'"):
        BankIndex(bank)


def test_a_bank_in_use_or_not_to_be_written_to_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    bank = bank_in(tmp_path / "bank")
    with lock.hold(bank.location), pytest.raises(ConfigError, match="in use by process"):
        build_index(bank)
    gone = replace(bank, location=f"{tmp_path}/bank/bank.json/inside")
    (tmp_path / "bank" / "bank.json").write_text("")
    with pytest.raises(ConfigError, match="cannot write to the folder"):
        build_index(gone)
