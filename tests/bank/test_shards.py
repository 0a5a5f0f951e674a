"""A bank on disk: tiles cover every row once in order, ids are found again, the wrong backbone is refused by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from scuba_ray.bank.shards import BankFolder, open_bank, partition_of, shard_metadata
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Chunk
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import PARTITIONS, bank_schema
from scuba_ray.tables.store import RunFolder

DIM = 6


@dataclass(frozen=True)
class Named:
    """What a bank asks of a backbone."""

    name: str = "small"
    fingerprint: str = "0123456789abcdef"
    dim: int = DIM


def write_bank(folder: Path, sizes: tuple[int, ...], backbone: Named = Named()) -> np.ndarray:
    """Write shards of the given sizes; returns all embeddings in row order."""
    run = RunFolder(str(folder))
    unit = run.begin(step="bank", table="bank", key=backbone.name, fingerprint="f" * 64)
    rng = np.random.default_rng(len(sizes))
    chunks, embeddings, row = [], [], 0
    for index, size in enumerate(sizes):
        ids = [f"image{row + one}" for one in range(size)]
        embedding_ND = rng.normal(size=(size, backbone.dim)).astype(np.float16)
        columns = {
            "backbone": backbone.name,
            "image_id": ids,
            "embedding": vectors(embedding_ND),
            "norm": numbers(np.linalg.norm(embedding_ND, axis=1)),
            "partition": np.array([partition_of(one) for one in ids], np.uint8),
        }
        chunks.append(Chunk(index, row, row + size))
        unit.write(chunks[-1], table_of(bank_schema(backbone.dim), columns).replace_schema_metadata(shard_metadata(backbone)))
        embeddings.append(embedding_ND)
        row += size
    run.finish(unit, chunks)
    return np.concatenate(embeddings)


@pytest.mark.parametrize("tile", [1, 4, 7, 10, 1000])
def test_tiles_are_the_rows_in_order_however_shards_were_cut(tmp_path: Path, tile: int) -> None:
    embedding_KD = write_bank(tmp_path, (10, 3, 0, 9))
    tiles = list(BankFolder(str(tmp_path), "small", ("small",)).tiles(tile))
    assert [one.offset for one in tiles] == list(range(0, 22, tile))
    assert all(len(one.norm_K) == tile for one in tiles[:-1])
    np.testing.assert_array_equal(np.concatenate([one.embedding_KD for one in tiles]), embedding_KD)
    partition_K = np.concatenate([one.partition_K for one in tiles])
    assert partition_K.tolist() == [partition_of(f"image{row}") for row in range(22)]


def test_ids_of_rows_in_any_order(tmp_path: Path) -> None:
    write_bank(tmp_path, (10, 3, 0, 9))
    ids = BankFolder(str(tmp_path), "small", ("small",)).ids(np.array([[21, 0, 12], [9, 10, 0]]))
    assert ids.tolist() == [["image21", "image0", "image12"], ["image9", "image10", "image0"]]


def test_partitions_are_of_equal_size_and_never_change() -> None:
    counts = Counter(partition_of(f"image{row}") for row in range(10_000))
    assert sorted(counts) == list(range(PARTITIONS))
    assert max(counts.values()) < 1.1 * min(counts.values())
    assert [partition_of(name) for name in ("a", "b", "folder/picture.png")] == [3, 3, 4]


def test_the_right_bank_is_found_by_fingerprint_under_any_name(tmp_path: Path) -> None:
    write_bank(tmp_path, (4,), Named("one", "a" * 16))
    write_bank(tmp_path, (5,), Named("two", "b" * 16))
    bank = open_bank(str(tmp_path), Named("another name", "b" * 16))
    assert (bank.backbone, bank.keys, bank.rows) == ("two", ("two",), 5)


def test_another_backbones_bank_is_refused_by_name(tmp_path: Path) -> None:
    write_bank(tmp_path, (4,), Named("one", "a" * 16))
    with pytest.raises(ConfigError, match=r"made with one \(a{16}\), this run reads other \(c{16}\)"):
        open_bank(str(tmp_path), Named("other", "c" * 16))


def test_a_folder_without_a_bank_and_a_bank_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished bank at"):
        open_bank(str(tmp_path / "nothing"), Named())
    write_bank(tmp_path / "empty", (0, 0))
    with pytest.raises(ConfigError, match="holds no pictures"):
        open_bank(str(tmp_path / "empty"), Named())


def test_a_shard_that_changed_is_a_data_error(tmp_path: Path) -> None:
    write_bank(tmp_path, (10, 10))
    bank = open_bank(str(tmp_path), Named())
    path = tmp_path / "bank" / bank.shards[1].name
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(byte ^ 255 for byte in data[4:1000]) + data[1000:])
    with pytest.raises(DataError, match=bank.shards[1].name):
        list(bank.tiles(5))
    path.unlink()
    with pytest.raises(DataError, match=bank.shards[1].name):
        list(bank.tiles(5))


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    write_bank(tmp_path / "a", (4, 4))
    write_bank(tmp_path / "b", (4, 4))
    write_bank(tmp_path / "c", (5, 4))
    a, b, c = (open_bank(str(tmp_path / name), Named()).fingerprint for name in "abc")
    assert a == b != c
