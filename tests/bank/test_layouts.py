"""Embeddings of other programs on disk: each layout is found and put in order; what is missing, damaged or unclear is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.bank import layouts
from scuba_ray.bank.layouts import Layout
from scuba_ray.errors import ConfigError, DataError


def cut(rows: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    assert sum(sizes) == len(rows)
    return np.split(rows, np.cumsum(sizes)[:-1])


def write_clip_retrieval(folder: Path, rows_KD: np.ndarray, sizes: Sequence[int], digits: int = 1, **columns: list[Any]) -> Path:
    """img_emb/ and metadata/ as clip-retrieval names them; image_path is pictures/ROW.jpg."""
    columns = {"image_path": [f"pictures/{row}.jpg" for row in range(len(rows_KD))], **columns}
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    start = 0
    for number, part_ND in enumerate(cut(rows_KD, sizes)):
        np.save(folder / "img_emb" / f"img_emb_{number:0{digits}}.npy", part_ND)
        table = pa.table({name: values[start : start + len(part_ND)] for name, values in columns.items()})
        pq.write_table(table, folder / "metadata" / f"metadata_{number:0{digits}}.parquet")
        start += len(part_ND)
    return folder


def write_published(folder: Path, rows_KD: np.ndarray, sizes: Sequence[int], unreadable: Sequence[int] = ()) -> Path:
    """NNNNN.npy and NNNNN_idx.npy; rows in `unreadable` have index -1, others their place in the array."""
    folder.mkdir(parents=True)
    readable_K = np.array([row not in unreadable for row in range(len(rows_KD))])
    for number, (part_ND, readable_N) in enumerate(zip(cut(rows_KD, sizes), cut(readable_K, sizes), strict=True), 898):
        np.save(folder / f"{number:05}.npy", part_ND)
        np.save(folder / f"{number:05}_idx.npy", np.where(readable_N, np.arange(len(part_ND)), -1))
    return folder


def write_npy(folder: Path, rows_KD: np.ndarray, sizes: Sequence[int]) -> Path:
    folder.mkdir(parents=True)
    for number, part_ND in enumerate(cut(rows_KD, sizes)):
        np.save(folder / f"part{number}.npy", part_ND)
    return folder


WRITERS: dict[Layout, Callable[[Path, np.ndarray, Sequence[int]], Path]] = {
    "clip-retrieval": write_clip_retrieval,
    "published": write_published,
    "npy": write_npy,
}
ROWS = np.arange(24 * 4, dtype=np.float16).reshape(24, 4)


def joined(pieces: Sequence[layouts.Piece]) -> np.ndarray:
    return np.concatenate([layouts.open_array(piece.array) for piece in pieces])


@pytest.mark.parametrize("layout", WRITERS)
def test_a_layout_is_found_out(layout: Layout, tmp_path: Path) -> None:
    folder = WRITERS[layout](tmp_path / "in", ROWS, (10, 14))
    found, pieces = layouts.find(folder, None, None)
    assert (found, [piece.rows for piece in pieces]) == (layout, [10, 14])
    np.testing.assert_array_equal(joined(pieces), ROWS)


@pytest.mark.parametrize("digits", [1, 2, 4])
def test_clip_retrieval_is_in_the_order_of_numbers_padded_or_not(digits: int, tmp_path: Path) -> None:
    folder = write_clip_retrieval(tmp_path / "in", ROWS, [2] * 12, digits)
    (folder / "img_emb" / "notes.txt").write_text("")
    (folder / "text_emb").mkdir()
    pieces = layouts.find(folder, None, None)[1]
    np.testing.assert_array_equal(joined(pieces), ROWS)
    tables = [pq.read_table(piece.names)["image_path"] for piece in pieces]
    assert [name for table in tables for name in table.to_pylist()] == [f"pictures/{row}.jpg" for row in range(24)]


def test_one_array_and_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    folder = write_npy(tmp_path / "in", ROWS, (20, 4))
    found, pieces = layouts.find(folder / "part1.npy", None, None)
    assert (found, pieces[0].rows) == ("npy", 4)
    table = tmp_path / "names.csv"
    pieces = layouts.find(folder, None, table)[1]
    assert [(piece.array.name, piece.first, piece.names) for piece in pieces] == [
        ("part0.npy", 0, table),
        ("part1.npy", 20, table),
    ]


def mixed(folder: Path) -> None:
    write_clip_retrieval(folder, ROWS, (24,))
    np.save(folder / "00000.npy", ROWS)
    np.save(folder / "00000_idx.npy", np.arange(24))
    np.save(folder / "more.npy", ROWS)


def test_an_unclear_layout_lists_what_was_found(tmp_path: Path) -> None:
    mixed(tmp_path / "in")
    with pytest.raises(ConfigError) as error:
        layouts.find(tmp_path / "in", None, None)
    for words in (
        "3 layouts",
        "clip-retrieval: a folder img_emb/",
        "published: 1 NAME_idx.npy",
        "npy: 1 .npy",
        "more.npy",
        "--layout",
    ):
        assert words in str(error.value)
    assert layouts.find(tmp_path / "in", "clip-retrieval", None)[0] == "clip-retrieval"


def test_nothing_to_import_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing at"):
        layouts.find(tmp_path / "absent", None, None)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds no embeddings .*; it holds pictures/, readme.txt"):
        layouts.find(tmp_path, None, None)
    with pytest.raises(ConfigError, match="no embeddings in the layout npy; it holds pictures/"):
        layouts.find(tmp_path, "npy", None)


def test_a_table_of_pictures_is_for_plain_arrays(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "in", ROWS, (24,))
    with pytest.raises(ConfigError, match="--metadata belongs to the layout npy"):
        layouts.find(folder, None, tmp_path / "names.csv")


INCOMPLETE: dict[str, tuple[Layout, Callable[[Path], object], str]] = {
    "no table": ("clip-retrieval", lambda at: (at / "metadata/metadata_1.parquet").unlink(), "img_emb_1.npy has no metadata"),
    "no array": ("clip-retrieval", lambda at: (at / "img_emb/img_emb_0.npy").unlink(), "metadata_0.parquet has no img_emb"),
    "same number": ("clip-retrieval", lambda at: np.save(at / "img_emb/img_emb_01.npy", ROWS), "the same number"),
    "no index": ("published", lambda at: (at / "00898_idx.npy").unlink(), "has no 00898_idx.npy beside it"),
    "index alone": ("published", lambda at: (at / "00899.npy").unlink(), "has no 00899.npy beside it"),
    "short index": ("published", lambda at: np.save(at / "00898_idx.npy", np.arange(3)), r"shape \(3,\), wanted 10 whole"),
    "index of floats": ("published", lambda at: np.save(at / "00898_idx.npy", np.ones(10)), "float64"),
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_what_belongs_together_must_be_there(what: str, tmp_path: Path) -> None:
    layout, spoil, message = INCOMPLETE[what]
    folder = WRITERS[layout](tmp_path / "in", ROWS, (10, 14))
    spoil(folder)
    with pytest.raises(DataError, match=message):
        layouts.find(folder, layout, None)


def truncated(path: Path, keep: int) -> None:
    np.save(path, ROWS)
    path.write_bytes(path.read_bytes()[:keep])


def zipped(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), rows=ROWS)
    path.with_suffix(".npz").rename(path)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "not a whole .npy"),
    "half a header": (lambda path: truncated(path, 50), "not a whole .npy"),
    "header only": (lambda path: truncated(path, 128), "not a whole .npy"),
    "truncated": (lambda path: truncated(path, 200), "not a whole .npy"),
    "objects": (lambda path: np.save(path, np.array([{}], object), allow_pickle=True), "not a whole .npy"),
    "an archive": (zipped, "not a whole .npy"),
    "whole numbers": (lambda path: np.save(path, ROWS.astype(np.int32)), "holds int32"),
    "one axis": (lambda path: np.save(path, ROWS[0]), r"shape \(4,\)"),
    "bfloat16 as bytes": (lambda path: np.save(path, ROWS.view("V2")), "wanted float16, float32 or float64"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_an_array_that_cannot_be_is_named(what: str, tmp_path: Path) -> None:
    write, message = DAMAGED[what]
    write(tmp_path / "embeddings.npy")
    with pytest.raises(DataError, match=message) as error:
        layouts.find(tmp_path / "embeddings.npy", None, None)
    assert "embeddings.npy" in str(error.value)
