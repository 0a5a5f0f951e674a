"""Segments: every row once, in fixed pieces, sorted by partition, read a run at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scuba_ray.bank.segments import Segments
from scuba_ray.bank.shards import BankFolder, partition_of
from scuba_ray.errors import DataError
from tests.bank.test_shards import Named, write_bank

SIZES = (10, 3, 0, 9, 40)


def bank_at(folder: Path) -> BankFolder:
    return BankFolder(str(folder), "small", ("small",))


@pytest.mark.parametrize("size", [1, 4, 10, 31, 62, 100])
def test_every_row_is_in_its_segment_sorted_by_partition(tmp_path: Path, size: int) -> None:
    embedding_KD = write_bank(tmp_path, SIZES)
    segments = Segments(bank_at(tmp_path), size)
    read = list(segments.stream(0, segments.count))
    assert [one.offset for one in read] == list(range(0, 62, size)) and segments.count == len(read)
    for number, one in enumerate(read):
        rows = range(one.offset, min(one.offset + size, 62))
        assert segments.rows(number, number + 1) == len(rows)
        order = sorted(rows, key=lambda row: (partition_of(f"image{row}"), row))
        assert one.index_N.tolist() == order
        assert one.partition_N.tolist() == [partition_of(f"image{row}") for row in order]
        assert one.embedding_ND.dtype == np.float16
        np.testing.assert_array_equal(one.embedding_ND, embedding_KD[order])
        np.testing.assert_allclose(one.norm_N, np.linalg.norm(embedding_KD[order].astype(np.float32), axis=1), rtol=1e-3)


def test_the_shards_cut_differently_hold_the_same_segments(tmp_path: Path) -> None:
    run, other = tmp_path / "one", tmp_path / "other"
    embedding_KD = write_bank(run, (62,))
    np.testing.assert_array_equal(embedding_KD[:13], write_bank(other, (13,)))
    one, cut = (Segments(bank_at(folder), 5) for folder in (run, other))
    for mine, theirs in zip(one.stream(0, 2), cut.stream(0, 2), strict=True):
        for name in ("embedding_ND", "norm_N", "partition_N", "index_N"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_a_run_of_segments_and_one_alone_are_those_of_the_whole(tmp_path: Path) -> None:
    write_bank(tmp_path, SIZES)
    segments = Segments(bank_at(tmp_path), 7)
    whole = list(segments.stream(0, segments.count))
    for first, stop in ((0, 1), (3, 6), (8, 9)):
        for mine, expected in zip(segments.stream(first, stop), whole[first:stop], strict=True):
            np.testing.assert_array_equal(mine.embedding_ND, expected.embedding_ND)
            np.testing.assert_array_equal(mine.index_N, expected.index_N)
    np.testing.assert_array_equal(segments.read(4).embedding_ND, whole[4].embedding_ND)
    assert segments.rows(0, 9) == 62 and segments.rows(2, 4) == 14


def test_only_the_shards_of_a_run_are_opened(tmp_path: Path) -> None:
    write_bank(tmp_path, (10, 10, 10))
    bank = bank_at(tmp_path)
    segments = Segments(bank, 5)
    (tmp_path / "bank" / bank.shards[1].name).unlink()
    _ = bank.metadata
    assert [one.offset for one in segments.stream(4, 6)] == [20, 25]
    with pytest.raises(DataError, match=bank.shards[1].name):
        list(segments.stream(0, 6))


def test_a_shard_of_another_backbone_is_a_data_error(tmp_path: Path) -> None:
    write_bank(tmp_path / "a", (10, 10), Named("small", "a" * 16))
    write_bank(tmp_path / "b", (10, 10), Named("small", "b" * 16))
    name = bank_at(tmp_path / "a").shards[1].name
    (tmp_path / "a" / "bank" / name).write_bytes((tmp_path / "b" / "bank" / name).read_bytes())
    segments = Segments(bank_at(tmp_path / "a"), 8)
    with pytest.raises(DataError, match="another backbone"):
        list(segments.stream(0, segments.count))
