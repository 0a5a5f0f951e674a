"""Imported rows: the same however they are cut, named by their table or their place; norms are stated, never made up."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.bank.importers import Norms, choose_norms, open_embeddings
from scuba_ray.bank.layouts import Layout
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.tables.columns import matrix
from tests.bank.test_layouts import WRITERS, write_clip_retrieval, write_npy, write_published

ROWS = np.random.default_rng(0).normal(size=(30, 4)) * 10
NOTHING = str
"""A hint that says nothing."""
UNIT = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_rows_are_the_same_however_they_are_cut(layout: Layout, dtype: str, tmp_path: Path) -> None:
    rows_KD = ROWS.astype(dtype)
    embeddings = open_embeddings(str(WRITERS[layout](tmp_path / "in", rows_KD, (13, 1, 16))))
    assert (embeddings.rows, embeddings.dim) == (30, 4)
    whole = embeddings.read(0, 30)
    np.testing.assert_array_equal(matrix(whole["embedding"]), rows_KD)
    assert len(set(whole["image_id"].to_pylist())) == 30
    for size in (1, 7, 29):
        parts = [embeddings.read(start, min(start + size, 30)) for start in range(0, 30, size)]
        assert pa.concat_tables(parts).combine_chunks().equals(whole.combine_chunks())
    assert embeddings.named(5, 20).equals(whole.slice(5, 15).select(["image_id", "uri"]))


def test_arrays_of_different_precision_are_read_as_the_widest(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS.astype(np.float16))
    np.save(tmp_path / "b.npy", ROWS.astype(np.float32))
    embeddings = open_embeddings(str(tmp_path))
    np.testing.assert_array_equal(matrix(embeddings.read(30, 60)["embedding"]), ROWS.astype(np.float32))


def names(folder: Path, **columns: list[Any]) -> list[tuple[str, str]]:
    embeddings = open_embeddings(str(write_clip_retrieval(folder, ROWS[:3], (2, 1), **columns)))
    return [tuple(row.values()) for row in embeddings.named(0, 3).to_pylist()]


def test_pictures_are_named_by_key_path_or_place(tmp_path: Path) -> None:
    paths = [f"pictures/{row}.jpg" for row in range(3)]
    assert names(tmp_path / "paths") == [(path, path) for path in paths]
    assert names(tmp_path / "keys", key=["000", "001", "002"], url=["http://a", "http://b", None]) == [
        ("000", "http://a"), ("001", "http://b"), ("002", ""),
    ]  # fmt: skip
    assert names(tmp_path / "numbers", key=[7, None, 9])[:2] == [("7", paths[0]), ("img_emb_0/1", paths[1])]
    published = open_embeddings(str(write_published(tmp_path / "published", ROWS, (30,))))
    assert published.named(4, 5).to_pylist() == [{"image_id": "00898/4", "uri": ""}]


def test_a_prefix_stands_before_every_id(tmp_path: Path) -> None:
    embeddings = open_embeddings(str(write_npy(tmp_path / "in", ROWS, (30,))), prefix="laion/")
    assert embeddings.named(2, 3)["image_id"].to_pylist() == ["laion/part0/2"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_plain_arrays_with_one_table_for_all(kind: str, tmp_path: Path) -> None:
    ids = [f"{row:012}" for row in range(30)]  # leading zeros are part of a name
    table = tmp_path / f"names.{kind}"
    if kind == "csv":
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "uri", "rating"), *((one, f"s3://b/{one}", "1.5") for one in ids)])
    else:
        pq.write_table(pa.table({"image_id": ids, "uri": [f"s3://b/{one}" for one in ids]}), table)
    embeddings = open_embeddings(str(write_npy(tmp_path / "in", ROWS, (13, 17))), metadata=str(table))
    assert embeddings.named(0, 30)["image_id"].to_pylist() == ids
    assert embeddings.named(12, 14)["uri"].to_pylist() == ["s3://b/000000000012", "s3://b/000000000013"]


def test_a_table_must_have_a_row_for_each_and_name_something(tmp_path: Path) -> None:
    folder, table = write_npy(tmp_path / "in", ROWS, (13, 17)), tmp_path / "names.parquet"
    pq.write_table(pa.table({"image_id": ["a"] * 29}), table)
    with pytest.raises(DataError, match=r"names.parquet has 29 rows, its arrays have 30"):
        open_embeddings(str(folder), metadata=str(table))
    pq.write_table(pa.table({"rating": list(range(30))}), table)
    with pytest.raises(DataError, match=r"names no pictures: wanted one of image_id, .*; it has rating"):
        open_embeddings(str(folder), metadata=str(table)).named(0, 1)
    table.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"names.parquet is not a readable"):
        open_embeddings(str(folder), metadata=str(table))
    with pytest.raises(ConfigError, match="there is no file"):
        open_embeddings(str(folder), metadata=str(tmp_path / "absent.csv"))


def test_clip_retrieval_tables_are_held_against_their_arrays(tmp_path: Path) -> None:
    folder = write_clip_retrieval(tmp_path / "in", ROWS, (13, 17))
    np.save(folder / "img_emb" / "img_emb_1.npy", ROWS[:16])
    with pytest.raises(DataError, match=r"metadata_1.parquet has 17 rows, its arrays have 16"):
        open_embeddings(str(folder))


def test_arrays_of_different_networks_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "b.npy", ROWS[:, :3])
    with pytest.raises(DataError, match=r"b.npy has 3 numbers a row, a.npy has 4"):
        open_embeddings(str(tmp_path))
    np.save(tmp_path / "c.npy", ROWS[:0])
    with pytest.raises(DataError, match="without a row"):
        open_embeddings(str(tmp_path / "c.npy"))


def test_an_array_is_never_held_as_a_whole(tmp_path: Path) -> None:
    big = np.lib.format.open_memmap(tmp_path / "big.npy", mode="w+", dtype=np.float32, shape=(400_000, 256))  # 400 MB, sparse
    big[::1000] = 1.0
    del big
    embeddings = open_embeddings(str(tmp_path / "big.npy"))
    tracemalloc.start()
    embeddings.sampled_norms()
    embeddings.read(399_000, 400_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


# ---------------------------------------------------------------------------------------------- norms


def embeddings_of(folder: Path, rows_KD: np.ndarray) -> Any:
    return open_embeddings(str(write_npy(folder, rows_KD, (len(rows_KD),))))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_unit_vectors_need_a_norm_and_are_told_why(dtype: type, tmp_path: Path) -> None:
    unit = embeddings_of(tmp_path / "in", UNIT.astype(dtype))
    with pytest.raises(
        ConfigError, match=r"unit vectors .* CLIPCap was trained on un-normalised .*--norms FILE.*--norm X; ask me"
    ):
        choose_norms(unit, None, None, lambda: "ask me")
    assert str(choose_norms(unit, 10.2, None, NOTHING)) == "constant 10.2"
    np.save(tmp_path / "norms.npy", np.arange(30) + 1.0)
    norms = choose_norms(unit, None, str(tmp_path / "norms.npy"), NOTHING)
    assert str(norms) == "file"
    read = norms.read(3, 5)
    assert read is not None and read.tolist() == [4, 5]


def test_raw_embeddings_keep_their_norms(tmp_path: Path) -> None:
    raw = embeddings_of(tmp_path / "in", ROWS)
    assert choose_norms(raw, None, None, NOTHING) == Norms() and str(Norms()) == "raw"
    with pytest.raises(ConfigError, match=r"norms of their own \(sampled: .* to .*\)"):
        choose_norms(raw, 10.0, None, NOTHING)


def test_norms_that_cannot_be(tmp_path: Path) -> None:
    unit = embeddings_of(tmp_path / "in", UNIT)
    np.save(tmp_path / "short.npy", np.ones(29))
    with pytest.raises(DataError, match=r"shape \(29,\), wanted 30 floating-point"):
        choose_norms(unit, None, str(tmp_path / "short.npy"), NOTHING)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--norm must be a number > 0"):
            choose_norms(unit, wrong, None, NOTHING)
    with pytest.raises(ConfigError, match="not both"):
        choose_norms(unit, 1.0, "norms.npy", NOTHING)


def test_unit_and_raw_rows_in_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="60% of the sampled rows are unit vectors"):
        choose_norms(embeddings_of(tmp_path / "in", np.concatenate([UNIT[:18], ROWS[18:]])), None, None, NOTHING)
