"""The run folder on a disk and on a store without renames: the finished is read, the damaged is found, nothing else moves."""

from __future__ import annotations

import pickle
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scuba_ray.errors import ConfigError, DataError, WorkerError
from scuba_ray.protocols import BadRow, Chunk, Receipt
from scuba_ray.tables import store
from scuba_ray.tables.parts import ROW_GROUP
from scuba_ray.tables.store import RunFolder, Unit

TABLE = "voxels"
PRINT = "a" * 64
CHUNKS = [Chunk(0, 0, 4), Chunk(1, 4, 8), Chunk(2, 8, 10)]


@pytest.fixture(params=["disk", "store"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    if request.param == "disk":
        return RunFolder(str(tmp_path / "run"))
    return RunFolder(f"fsspec+memory://bucket/{uuid.uuid4().hex}")


@pytest.fixture
def disk(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def rows_of(chunk: Chunk, dim: int = 8) -> pa.Table:
    numbers = np.arange(chunk.start, chunk.stop)
    vectors = np.random.default_rng(chunk.start).normal(size=(len(numbers), dim)).astype(np.float16)
    names = [f"voxel {n}" for n in numbers]
    return pa.table(
        {"voxel_id": numbers, "weight": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim), "name": names}
    )


def fill(run: RunFolder, key: str = "s/b", print_: str = PRINT, chunks: Sequence[Chunk] = CHUNKS, dim: int = 8) -> Unit:
    unit = run.begin(step="fit", table=TABLE, key=key, fingerprint=print_)
    for chunk in run.missing(unit, chunks):
        unit.write(chunk, rows_of(chunk, dim))
    run.finish(unit, chunks)
    return unit


def part(run: RunFolder, unit: Unit, chunk: Chunk) -> Path:
    return Path(run.location) / TABLE / unit.part_name(chunk)


def parts(run: RunFolder) -> list[str]:
    return sorted(path.name for path in (Path(run.location) / TABLE).glob("*.parquet"))


def test_what_was_written_is_read_in_the_order_of_keys_and_chunks(run: RunFolder) -> None:
    for key in ("s2/b", "s1/b"):
        unit = run.begin(step="fit", table=TABLE, key=key, fingerprint=PRINT)
        for chunk in reversed(CHUNKS):
            unit.write(chunk, rows_of(chunk))
        run.finish(unit, CHUNKS)
    whole = pa.concat_tables([rows_of(chunk) for chunk in CHUNKS])
    assert run.read(TABLE).equals(pa.concat_tables([whole, whole]))
    assert run.read(TABLE, key="s1/b", columns=["name", "voxel_id"]).equals(whole.select(["name", "voxel_id"]))
    assert run.keys(TABLE) == ["s1/b", "s2/b"]
    assert run.rows(TABLE, "s2/b") == 10


def test_any_slice_is_what_slicing_the_whole_gives(run: RunFolder) -> None:
    fill(run)
    whole = run.read(TABLE)
    for start in range(11):
        for stop in range(start, 11):
            assert run.slice(TABLE, "s/b", start, stop, ["voxel_id"]).equals(
                whole.slice(start, stop - start).select(["voxel_id"])
            )
    with pytest.raises(DataError, match=r"rows \[5, 11\) of voxels s/b were asked for, it has 10"):
        run.slice(TABLE, "s/b", 5, 11)


def test_a_slice_opens_only_the_parts_it_lies_in(disk: RunFolder) -> None:
    unit = fill(disk)
    part(disk, unit, CHUNKS[0]).unlink()
    assert disk.slice(TABLE, "s/b", 4, 10)["voxel_id"].to_pylist() == list(range(4, 10))
    with pytest.raises(DataError, match="cannot be read"):
        disk.slice(TABLE, "s/b", 3, 10)


def test_an_unfinished_unit_is_not_read(run: RunFolder) -> None:
    unit = run.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT)
    unit.write(CHUNKS[0], rows_of(CHUNKS[0]))
    with pytest.raises(DataError, match="holds no finished voxels"):
        run.read(TABLE)
    with pytest.raises(DataError, match=r"no finished voxels for s/b \(finished: none\)"):
        run.rows(TABLE, "s/b")
    with pytest.raises(WorkerError, match=r"s@b-00001-aaaaaaaaaaaa.parquet is missing"):
        run.finish(unit, CHUNKS)
    assert run.missing(unit, CHUNKS) == CHUNKS[1:]


def test_backbones_of_different_lengths_share_a_table(run: RunFolder) -> None:
    fill(run, "s/narrow", dim=3)
    fill(run, "s/wide", dim=5)
    assert run.read(TABLE, key="s/wide").schema.field("weight").type == pa.list_(pa.float16(), 5)
    assert [len(vector) for vector in run.read(TABLE)["weight"].to_pylist()] == [3] * 10 + [5] * 10


def test_a_changed_fingerprint_replaces_its_key_and_no_other(run: RunFolder) -> None:
    fill(run, "s/b")
    fill(run, "s/b-2")
    unit = run.begin(step="fit", table=TABLE, key="s/b", fingerprint="b" * 64)
    assert run.keys(TABLE) == ["s/b-2"]
    assert run.missing(unit, CHUNKS) == CHUNKS
    fill(run, "s/b", "b" * 64)
    assert run.keys(TABLE) == ["s/b", "s/b-2"]
    assert run.read(TABLE, key="s/b-2").num_rows == 10


def test_the_same_fingerprint_keeps_its_parts_other_chunk_bounds_do_not(run: RunFolder) -> None:
    unit = fill(run)
    assert run.missing(run.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT), CHUNKS) == []
    halves = [Chunk(0, 0, 4), Chunk(1, 4, 10)]
    assert run.missing(unit, halves) == halves[1:]
    fill(run, chunks=halves)
    assert run.read(TABLE)["voxel_id"].to_pylist() == list(range(10))


def test_parts_of_chunks_that_are_no_more_are_deleted(disk: RunFolder) -> None:
    fill(disk)
    fill(disk, chunks=CHUNKS[:2])
    assert parts(disk) == ["s@b-00000-aaaaaaaaaaaa.parquet", "s@b-00001-aaaaaaaaaaaa.parquet"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied", "zeros"])
def test_a_damaged_part_is_the_only_one_missing(disk: RunFolder, damage: str, finished: bool) -> None:
    unit = fill(disk)
    if not finished:
        (Path(disk.location) / TABLE / "_manifest.json").unlink()
    path = part(disk, unit, CHUNKS[1])
    data = path.read_bytes()
    path.write_bytes({"truncated": data[:-100], "emptied": b"", "zeros": bytes(len(data))}.get(damage, b""))
    if damage == "deleted":
        path.unlink()
    assert disk.missing(unit, CHUNKS) == [CHUNKS[1]]
    assert not path.exists()
    fill(disk)
    assert path.read_bytes() == data


def test_every_flipped_bit_of_a_finished_part_is_found(disk: RunFolder) -> None:
    unit = fill(disk, chunks=CHUNKS[:1])
    path = part(disk, unit, CHUNKS[0])
    data = path.read_bytes()
    manifest = Path(disk.location) / TABLE / "_manifest.json"
    finished = manifest.read_bytes()
    for position in random.Random(0).sample(range(len(data)), 150):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        manifest.write_bytes(finished)
        assert disk.missing(unit, CHUNKS[:1]) == CHUNKS[:1], position


def test_parts_with_a_receipt_are_listed_as_told_and_must_be_there(disk: RunFolder) -> None:
    unit = disk.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT)
    receipts = []
    for chunk in CHUNKS:
        entry = unit.write(chunk, rows_of(chunk))
        receipts.append(Receipt(chunk, entry.rows, 0, 0.0, entry.bytes, entry.sha256))
    path = part(disk, unit, CHUNKS[1])
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(WorkerError, match="is damaged"):
        disk.finish(unit, CHUNKS, receipts)
    path.write_bytes(data)
    disk.finish(unit, CHUNKS, receipts)
    told = (Path(disk.location) / TABLE / "_manifest.json").read_bytes()
    (Path(disk.location) / TABLE / "_manifest.json").unlink()
    disk.finish(unit, CHUNKS)
    assert (Path(disk.location) / TABLE / "_manifest.json").read_bytes() == told, "what writers tell is what readers find"


def test_a_large_unit_is_held_against_its_sizes_and_on_demand_against_its_contents(
    disk: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_VERIFIED", 100)
    unit = fill(disk)
    path = part(disk, unit, CHUNKS[1])
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    assert disk.missing(unit, CHUNKS) == []
    assert RunFolder(disk.location, verify=True).missing(unit, CHUNKS) == [CHUNKS[1]]
    fill(disk)
    path.write_bytes(data[:-1])
    assert disk.missing(unit, CHUNKS) == [CHUNKS[1]]


def test_flipped_values_of_an_unfinished_part_are_found_by_page_checksums(disk: RunFolder) -> None:
    unit = disk.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT)
    chunk = Chunk(0, 0, 500)
    unit.write(chunk, rows_of(chunk))
    path = part(disk, unit, chunk)
    data = path.read_bytes()
    for position in random.Random(0).sample(range(len(data) // 4, len(data) // 2), 50):
        flipped = bytearray(data)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        assert disk.missing(unit, [chunk]) == [chunk], position


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"format": 99, "units": {}}', b'{"format": 1, "units": {"s/b": {}}}'])
def test_a_damaged_manifest_stops_readers_and_is_rebuilt_from_the_parts(disk: RunFolder, text: bytes) -> None:
    unit = fill(disk)
    (Path(disk.location) / TABLE / "_manifest.json").write_bytes(text)
    with pytest.raises(DataError, match="_manifest"):
        disk.read(TABLE)
    assert disk.missing(unit, CHUNKS) == []
    disk.finish(unit, CHUNKS)
    assert disk.read(TABLE).num_rows == 10


def test_other_tools_read_the_folder(disk: RunFolder) -> None:
    fill(disk, "s1/b")
    fill(disk, ".hidden/b")
    frame = pd.read_parquet(Path(disk.location) / TABLE)
    assert sorted(frame["voxel_id"]) == sorted([*range(10), *range(10)])


def test_quarantine_holds_what_could_not_be_computed_for_as_long_as_it_is_true(run: RunFolder) -> None:
    assert run.quarantine().num_rows == 0
    unit = run.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT)
    unit.write(CHUNKS[0], rows_of(CHUNKS[0]), [BadRow("voxel_id=3", "constant")])
    assert run.quarantine().to_pylist() == [{"step": "fit", "unit": "s/b", "key": "voxel_id=3", "reason": "constant"}]
    unit.write(CHUNKS[0], rows_of(CHUNKS[0]))
    assert run.quarantine().num_rows == 0
    unit.write(CHUNKS[1], rows_of(CHUNKS[1]), [BadRow("voxel_id=5", "constant")])
    run.begin(step="fit", table=TABLE, key="s/b", fingerprint="b" * 64)
    assert run.quarantine().num_rows == 0


def test_what_killed_writers_left_is_removed_and_nothing_else(disk: RunFolder) -> None:
    fill(disk)
    folder = Path(disk.location) / TABLE
    left, note = folder / ".s@b-00001-aaaaaaaaaaaa.parquet.0123456789ab.tmp", folder / ".notes"
    left.write_bytes(b"half")
    note.write_text("mine")
    disk.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT)
    assert not left.exists()
    assert note.exists()
    assert len(parts(disk)) == 3


def test_a_folder_of_another_data_set_is_refused(run: RunFolder) -> None:
    run.claim({"subj01": "1" * 64})
    run.claim({"subj02": "2" * 64})
    run.claim({"subj01": "1" * 64, "subj02": "2" * 64})
    with pytest.raises(ConfigError, match="holds the run of another data set: subj02 was 222222222222, is 333333333333 now"):
        run.claim({"subj01": "1" * 64, "subj02": "3" * 64})


def test_run_json_and_files(run: RunFolder) -> None:
    assert run.read_run_json() == {}
    run.write_run_json({"seed": 1, "steps": {"fit": 2.5}})
    assert run.read_run_json() == {"seed": 1, "steps": {"fit": 2.5}}
    assert run.write_file("report/index.html", b"<html>") == f"{run.location}/report/index.html"


def test_it_travels_to_workers_and_paths_become_absolute(
    disk: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunFolder("run").location == RunFolder(f"file://{tmp_path}/run").location == disk.location
    assert pickle.loads(pickle.dumps(disk)).location == disk.location


def test_an_unknown_store_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="cannot reach nowhere://bucket/run"):
        RunFolder("nowhere://bucket/run").keys(TABLE)


def test_an_unknown_column_is_named_with_those_there_are(run: RunFolder) -> None:
    fill(run)
    with pytest.raises(DataError, match="has no column 'wait'; columns: voxel_id, weight, name"):
        run.read(TABLE, columns=["wait"])


def test_only_the_row_groups_that_rows_lie_in_are_read(disk: RunFolder) -> None:
    unit = disk.begin(step="fit", table=TABLE, key="s/b", fingerprint=PRINT)
    chunk = Chunk(0, 0, 1000)
    unit.write(chunk, rows_of(chunk, 64).replace_schema_metadata({ROW_GROUP: b"100"}))
    disk.finish(unit, [chunk])
    whole = disk.read(TABLE)
    for start, stop in ((0, 1000), (250, 310), (300, 400), (999, 1000), (1000, 1000), (0, 0)):
        assert disk.slice(TABLE, "s/b", start, stop).equals(whole.slice(start, stop - start)), (start, stop)
    path = part(disk, unit, chunk)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert len(disk.slice(TABLE, "s/b", 0, 100)) == len(disk.slice(TABLE, "s/b", 900, 1000)) == 100
    with pytest.raises(DataError):
        disk.slice(TABLE, "s/b", 0, 1000)
