from __future__ import annotations

import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scuba_ray.datasets import parquet_tables, scanning
from scuba_ray.datasets.content import picture_digest
from scuba_ray.datasets.parquet_images import ParquetImages
from scuba_ray.datasets.parquet_tables import ParquetTable
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import BadRow


def pictures(count: int, size: int = 300) -> list[bytes]:
    return [random.Random(index).randbytes(size + index) for index in range(count)]


def write(path: Path, columns: dict[str, Any], group: int = 1000, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group, **options)


def scanned(folder: Path) -> tuple[list[dict[str, Any]], list[BadRow]]:
    """Every picture of a folder of tables, each read back and compared with its digest."""
    source = ParquetImages(str(folder))
    table, bad = source.scan(source.files()["name"].to_pylist())
    rows = table.to_pylist()
    for row in rows:
        data = source.read(row["uri"])
        assert len(data) == row["bytes"] and picture_digest(data) == row["digest"]
    return rows, bad


@pytest.mark.parametrize(
    ("name", "kind"), [("image", pa.binary()), ("Bytes", pa.large_binary()), ("jpg", pa.binary()), ("PNG", pa.binary())]
)
def test_columns_of_bytes(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    data = pictures(10)
    write(tmp_path / "deep/a.parquet", {name: pa.array(data, kind), "url": ["https://a"] * 10, "caption": ["c"] * 10}, 4)
    files = ParquetImages(str(tmp_path)).files()
    assert files["name"].to_pylist() == [f"deep/a.parquet#rg0000{group}" for group in range(3)]
    rows, bad = scanned(tmp_path)
    assert not bad and [row["digest"] for row in rows] == [picture_digest(one) for one in data]
    assert [row["image_id"] for row in rows] == [f"deep/a.parquet#{row}" for row in range(10)]
    assert rows[9]["uri"] == "deep/a.parquet#rg00002:1"
    # one file is a source too
    assert ParquetImages(str(tmp_path / "deep/a.parquet")).files()["name"][2].as_py() == "a.parquet#rg00002"


def test_hugging_faces_struct_and_integer_ids(tmp_path: Path) -> None:
    data = pictures(6)
    images: list[dict[str, Any] | None] = [{"bytes": one, "path": "x.png"} for one in data]
    images[2], images[4] = {"bytes": None, "path": "x.png"}, None
    write(tmp_path / "a.parquet", {"photo": images, "id": pa.array(range(10, 16)), "key": pa.array([1.5] * 6)})
    rows, bad = scanned(tmp_path)
    assert [row["image_id"] for row in rows] == ["10", "11", "13", "15"]
    assert [row.key for row in bad] == ["image_id=12", "image_id=14"] and "nothing in column 'photo.bytes'" in bad[0].reason


def test_ids_that_are_null_repeated_or_no_text(tmp_path: Path) -> None:
    names = pa.array([b"a", None, b"a", b"caf\xe9", b"b"]).view(pa.string())
    write(tmp_path / "a.parquet", {"image": pictures(5), "key": names, "id": range(5)})
    rows, bad = scanned(tmp_path)
    assert [row["image_id"] for row in rows] == ["a", "b"]
    assert [(row.key, row.reason.split(";")[0]) for row in bad] == [
        ("image_id=a.parquet#1", "its id, column 'key', is null"),
        ("image_id=a", "a second picture with this id"),
        ("image_id=a.parquet#3", "its id or path is not UTF-8"),
    ]


def test_paths_beside_the_table_absolute_and_anywhere(tmp_path: Path) -> None:
    data = pictures(4)
    (tmp_path / "deep/images").mkdir(parents=True)
    (tmp_path / "deep/images/0.png").write_bytes(data[0])
    (tmp_path / "elsewhere.png").write_bytes(data[1])
    fsspec.filesystem("memory").pipe("/scuba-parquet/2.png", data[2])
    (tmp_path / "uri.png").write_bytes(data[3])
    paths = ["images/0.png", str(tmp_path / "elsewhere.png"), "memory://scuba-parquet/2.png", (tmp_path / "uri.png").as_uri()]
    paths += ["../uri.png", "images/none.png", "http://a/b.png", None, ""]
    write(tmp_path / "deep/a.parquet", {"image_path": paths})
    rows, bad = scanned(tmp_path)
    assert [row["uri"] for row in rows] == ["deep/images/0.png", *paths[1:4]]
    assert [row["digest"] for row in rows] == [picture_digest(one) for one in data]
    assert [row.key for row in bad] == [f"image_id=deep/a.parquet#{row}" for row in range(4, 9)]
    for row, words in zip(
        bad, ("must be a path inside", "cannot be read", "img2dataset", "nothing in", "cannot be read"), strict=True
    ):
        assert words in row.reason
    with pytest.raises(DataError, match="img2dataset"):
        ParquetImages(str(tmp_path)).read("https://a/b.png")
    fingerprint = ParquetImages(str(tmp_path)).fingerprint()
    (tmp_path / "deep/images/0.png").write_bytes(data[0][::-1])
    assert ParquetImages(str(tmp_path)).fingerprint() != fingerprint


def test_what_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"picture": [b"a"], "n": [1]}, r"no column holds pictures.* Columns: picture \(binary\), n \(int64\)"),
        ({"image": ["text"]}, "no column holds pictures"),
        ({"path": [1]}, "no column holds pictures"),
        ({"image": [b"a"], "jpg": [b"a"]}, "any of the columns image, jpg; keep one"),
        ({"image": [b"a"], "x": [{"bytes": b"a"}]}, "any of the columns image, x; keep one"),
        ({"path": ["a"], "URL": ["b"]}, "any of the columns path, URL; keep one"),
        ({"URL": ["https://a/b.jpg", "c"]}, "download with img2dataset first"),
    ]
    for index, (columns, words) in enumerate(cases):
        write(tmp_path / f"{index}/a.parquet", columns)
        with pytest.raises(ConfigError, match=words):
            ParquetImages(str(tmp_path / f"{index}")).files()
    write(tmp_path / "empty/a.parquet", {"image": pa.array([], pa.binary())})
    assert scanned(tmp_path / "empty") == ([], [])


def test_a_damaged_table_costs_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        options = {"use_dictionary": False, "data_page_size": 20_000, "write_batch_size": 1, "write_page_checksum": True}
        write(tmp_path / f"{name}.parquet", {"image": pictures(30, 5000)}, 10, **options)
    metadata = pq.read_metadata(tmp_path / "a.parquet").row_group(1).column(0)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = metadata.data_page_offset + metadata.total_compressed_size // 2
    data[middle : middle + 12_000] = bytes(12_000)
    (tmp_path / "a.parquet").write_bytes(data)
    (tmp_path / "b.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-1000])
    monkeypatch.setattr(parquet_tables, "_BATCH_ROWS", 2)
    rows, bad = scanned(tmp_path)
    assert [row.key for row in bad] == ["file=a.parquet#rg00001", "file=b.parquet"]
    assert "damaged: row group 1 from row" in bad[0].reason and "damaged: its footer" in bad[1].reason
    ids = [row["image_id"] for row in rows]
    assert ids[:11] == [f"a.parquet#{row}" for row in range(11)] and ids[-40:-30] == [f"a.parquet#{row}" for row in range(20, 30)]
    assert ids[-30:] == [f"c.parquet#{row}" for row in range(30)] and 51 <= len(ids) < 60


def test_random_damage_costs_rows_never_the_scan(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [b"x" * 50, b"y" * 70] * 10, "key": [str(row) for row in range(20)]}, 7)
    whole = (tmp_path / "a.parquet").read_bytes()
    draw = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in (draw.randrange(4, len(data) - 8) for _ in range(draw.randrange(1, 4))):
            data[place] = draw.randrange(256)
        (tmp_path / "a.parquet").write_bytes(data)
        source = ParquetImages(str(tmp_path))
        try:
            source.scan(source.files()["name"].to_pylist())
        except (ConfigError, DataError):
            continue


def test_disk_failures_are_not_the_tables_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", {"image": pictures(5)})
    source = ParquetImages(str(tmp_path))
    names = source.files()["name"].to_pylist()

    class Failing:
        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *exc: object) -> None: ...

        def read(self, size: int) -> bytes:
            raise OSError("connection reset")

    def failing_batches(*arguments: object, **options: object) -> None:
        raise OSError("connection reset")

    monkeypatch.setattr("scuba_ray.datasets.locations.Location.stream", lambda *_: Failing())
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing_batches)
    with pytest.raises(OSError, match="connection reset"):
        source.scan(names)


def test_a_table_that_changed_or_vanished(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": pictures(20)}, 10)
    rows, _ = scanned(tmp_path)
    names = ParquetImages(str(tmp_path)).files()["name"].to_pylist()
    write(tmp_path / "a.parquet", {"image": pictures(3)}, 10)
    for uri in (rows[9]["uri"], rows[19]["uri"], "../a.parquet#rg00000:0", ""):
        with pytest.raises(DataError):
            ParquetImages(str(tmp_path)).read(uri)
    table, bad = ParquetImages(str(tmp_path)).scan(names)
    assert len(table) == 3 and [row.key for row in bad] == ["file=a.parquet#rg00001"]
    (tmp_path / "a.parquet").unlink()
    table, bad = ParquetImages(str(tmp_path)).scan(names)
    assert len(table) == 0 and [row.key for row in bad] == [f"file={name}" for name in names]


def test_readers_side_by_side_decode_a_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", {"image": pictures(400)}, 50)
    source: ParquetImages = pickle.loads(pickle.dumps(ParquetImages(str(tmp_path))))
    rows = source.scan(source.files()["name"].to_pylist())[0].to_pylist()
    decoded, real, lock = [], ParquetTable.pictures, threading.Lock()

    def counted(self: ParquetTable, group: int) -> pa.ChunkedArray:
        with lock:
            decoded.append(group)
        return real(self, group)

    monkeypatch.setattr(ParquetTable, "pictures", counted)
    with ThreadPoolExecutor(4) as threads:
        digests = list(threads.map(lambda row: picture_digest(source.read(row["uri"])), rows))
    assert digests == [row["digest"] for row in rows]
    assert sorted(decoded) == list(range(8)) and len(source._held) == 2
    random.Random(0).shuffle(rows)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda row: picture_digest(source.read(row["uri"])) == row["digest"], rows[:100]))


def test_a_scan_holds_a_piece_of_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row group of 96 MB, read some 8 MB at a time: Arrow's memory stays far below it."""
    data = [bytes([index]) * (1 << 20) for index in range(96)]
    write(tmp_path / "a.parquet", {"image": data}, compression="none", use_dictionary=False, write_batch_size=2)
    monkeypatch.setattr(parquet_tables, "_BATCH_BYTES", 8 << 20)
    source, pool, held = ParquetImages(str(tmp_path)), pa.default_memory_pool(), []
    before = pool.bytes_allocated()

    def measured(data: bytes) -> str:
        held.append(pool.bytes_allocated() - before)
        return picture_digest(data)

    monkeypatch.setattr(scanning, "picture_digest", measured)
    table, bad = source.scan(source.files()["name"].to_pylist())
    assert len(table) == len(held) == 96 and not bad and 8 << 20 <= max(held) < 48 << 20
