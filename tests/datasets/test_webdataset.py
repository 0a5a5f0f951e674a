from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scuba_ray.datasets import locations, tar_members
from scuba_ray.datasets.content import picture_digest
from scuba_ray.datasets.webdataset import TarImages
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import BadRow
from tests.datasets.packed import write_tar

LONG = "d/" * 60 + "x" * 90 + ".jpg"


def scanned(folder: Path) -> tuple[dict[str, str], list[BadRow]]:
    """Every picture of a folder of tars as id and uri, each read back and compared with its digest."""
    source = TarImages(str(folder))
    table, bad = source.scan(source.files()["name"].to_pylist())
    for row in table.to_pylist():
        data = source.read(row["uri"])
        assert len(data) == row["bytes"] and picture_digest(data) == row["digest"]
    return dict(zip(table["image_id"].to_pylist(), table["uri"].to_pylist(), strict=True)), bad


def some(count: int, size: int = 700) -> list[tuple[str, bytes]]:
    return [(f"{index:03d}.jpg", random.Random(index).randbytes(size + index)) for index in range(count)]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_other_members_and_names_that_look_like_paths(tmp_path: Path, format: int) -> None:
    members = [
        (LONG, b"long"), ("a.txt", b"text" * 1000), ("a.JPG", b"a"), ("../../x.png", b"up"), ("./b.png", b"b"),
        ("/etc/c.png", b"c"), (".hidden.png", b"h"),
        ("__MACOSX/._d.png", b"h"), ("ü 日本.webp", b"u"), ("caf\udce9.gif", b"e"), ("a.json", b"{}"),
    ]  # fmt: skip
    write_tar(tmp_path / "deep/00000.tar", members, format)
    found, bad = scanned(tmp_path)
    names = [LONG, "a.JPG", "../../x.png", "b.png", "/etc/c.png", "ü 日本.webp", "caf\\xe9.gif"]
    assert list(found) == [f"deep/00000.tar/{name}" for name in names] and not bad
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", tmp_path / "deep/00000.tar"]


@pytest.mark.parametrize("format", ["gnu", "oldgnu", "pax", "ustar", "v7"])
def test_archives_of_the_tar_command(tmp_path: Path, format: str) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    for name, data in some(30):
        (tmp_path / "in/sub" / name).write_bytes(data)
    subprocess.run(["tar", f"--format={format}", "-cf", tmp_path / "a.tar", "-C", tmp_path / "in", "."], check=True)
    found, bad = scanned(tmp_path)
    assert sorted(found) == [f"a.tar/sub/{name}" for name, _ in some(30)] and not bad


def test_links_devices_and_sparse_files_are_refused_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("s.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("c.png", tarfile.CHRTYPE),
            ("d.png", tarfile.DIRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"good"))
    for format in ("gnu", "pax"):
        (tmp_path / "in").mkdir(exist_ok=True)
        with (tmp_path / "in/hole.png").open("wb") as file:
            for place in range(40):
                file.seek(place * 200_000)
                file.write(b"x" * 5000)
        (tmp_path / "in/later.png").write_bytes(b"later")
        command = [
            "tar",
            "-S",
            f"--format={format}",
            "-cf",
            tmp_path / f"{format}.tar",
            "-C",
            tmp_path / "in",
            "hole.png",
            "later.png",
        ]
        subprocess.run(command, check=True)
    found, bad = scanned(tmp_path)
    assert sorted(found) == ["a.tar/good.png", "gnu.tar/later.png", "pax.tar/later.png"]
    reasons = {row.key: row.reason for row in bad}
    assert reasons["image_id=a.tar/s.png"] == "a symbolic link, no plain file"
    assert {key.removeprefix("image_id=") for key in reasons} == {
        "a.tar/s.png", "a.tar/h.png", "a.tar/c.png", "a.tar/d.png", "gnu.tar/hole.png", "pax.tar/hole.png",
    }  # fmt: skip


def test_truncation_anywhere_keeps_what_came_before_and_is_said(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", some(6))
    whole = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        ends = [info.offset_data + info.size for info in tar]
    for length in [*range(0, ends[-1] + 600, 97), *ends, *(end - 1 for end in ends)]:
        (tmp_path / "a.tar").write_bytes(whole[:length])
        found, bad = scanned(tmp_path)
        assert len(found) == sum(end <= length for end in ends)
        assert [row.key for row in bad] == ["file=a.tar"] and ("truncated" if length else "empty file") in bad[0].reason


def test_damage_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", some(6))
    data = bytearray((tmp_path / "a.tar").read_bytes())
    with tarfile.open(tmp_path / "a.tar") as tar:
        data[tar.getmember("003.jpg").offset + 5] ^= 64
    (tmp_path / "a.tar").write_bytes(data)
    write_tar(tmp_path / "b.tar", some(2))
    (tmp_path / "c.tar").write_bytes((tmp_path / "b.tar").read_bytes() * 2)
    (tmp_path / "d.tar").write_bytes(b"\x1f\x8b" + bytes(range(256)) * 4)
    (tmp_path / "e.tar").write_bytes(b"<html>" * 200)
    found, bad = scanned(tmp_path)
    assert [name[:9] for name in found] == [
        "a.tar/000",
        "a.tar/001",
        "a.tar/002",
        *["b.tar/000", "b.tar/001"],
        "c.tar/000",
        "c.tar/001",
    ]
    assert [row.key for row in bad] == ["file=a.tar", "file=c.tar", "file=d.tar", "file=e.tar"]
    for row, words in zip(bad, ("no header of a member", "after the end mark", "gzip", "no header"), strict=True):
        assert words in row.reason


def test_random_damage_costs_rows_never_the_scan(tmp_path: Path) -> None:
    draw = random.Random(0)
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        write_tar(tmp_path / "a.tar", [(f"{index}{LONG}", b"x" * 300) for index in range(4)], format)
        whole = (tmp_path / "a.tar").read_bytes()
        for _ in range(300):
            data = bytearray(whole)
            for place in (draw.randrange(len(data)) for _ in range(draw.randrange(1, 6))):
                data[place] = draw.randrange(256)
            (tmp_path / "a.tar").write_bytes(data)
            scanned(tmp_path)


def test_a_tar_that_has_changed_is_noticed(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", some(5, 500))
    found, _ = scanned(tmp_path)
    uri, other = found["a.tar/003.jpg"], found["a.tar/001.jpg"]
    same_layout = [(name, data[::-1]) for name, data in some(5, 500)]
    for change in (lambda: write_tar(tmp_path / "a.tar", same_layout), lambda: write_tar(tmp_path / "a.tar", some(1, 500))):
        change()
        with pytest.raises(DataError, match=r"a\.tar in .* has changed since it was scanned"):
            TarImages(str(tmp_path)).read(uri)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        TarImages(str(tmp_path)).read(other)
    wrong = ("a.tar", "a.tar#1", "../a.tar#0+1:00000000", "/a.tar#0+1:00000000", f"a.tar#0+{1 << 40}:00000000", "")
    for uri in wrong:
        with pytest.raises(DataError):
            TarImages(str(tmp_path)).read(uri)


def test_empty_and_repeated_members_are_bad_rows(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.png", b"first"), ("b.png", b""), ("a.png", b"second"), ("./a.png", b"third")])
    found, bad = scanned(tmp_path)
    assert list(found) == ["a.tar/a.png"] and TarImages(str(tmp_path)).read(found["a.tar/a.png"]) == b"first"
    assert [(row.key, row.reason.split(";")[0]) for row in bad] == [
        ("image_id=a.tar/b.png", "empty file"),
        *[("image_id=a.tar/a.png", "a second picture with this id")] * 2,
    ]


def test_what_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"files that end in \.tar"):
        TarImages(str(tmp_path)).files()
    write_tar(tmp_path / "a.tar", some(1))
    (tmp_path / "b.TAR.GZ").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"b\.TAR\.GZ in .* is compressed"):
        TarImages(str(tmp_path)).files()
    assert TarImages(str(tmp_path / "a.tar")).files()["name"].to_pylist() == ["a.tar"]


def test_a_tar_that_vanished_is_a_bad_row(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", some(2))
    table, bad = TarImages(str(tmp_path)).scan(["a.tar", "b.tar", "../c.tar"])
    assert len(table) == 2 and [row.key for row in bad] == ["file=a.tar", "file=../c.tar"]


def test_an_archive_that_cannot_be_read_does_not_keep_the_others_from_being_built(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name, some(2))
    source, whole = TarImages(str(tmp_path)), TarImages(str(tmp_path)).fingerprint()
    names = source.files()["name"].to_pylist()
    (tmp_path / "a.tar").unlink()
    assert source.fingerprint() != whole
    table, bad = source.scan(names)
    assert len(table) == 2 and [row.key for row in bad] == ["file=a.tar"]


def test_ids_and_fingerprint_go_with_the_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "one/00000.tar", some(20))
    first, fingerprint = scanned(tmp_path / "one"), TarImages(str(tmp_path / "one")).fingerprint()
    (tmp_path / "one").rename(tmp_path / "two")
    moved = pickle.loads(pickle.dumps(TarImages(str(tmp_path / "two"))))
    assert scanned(tmp_path / "two") == first and moved.fingerprint() == fingerprint
    write_tar(tmp_path / "two/00000.tar", [(name, data[::-1]) for name, data in some(20)])
    assert TarImages(str(tmp_path / "two")).fingerprint() != fingerprint


def test_many_threads_read_many_members_from_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tar in range(4):
        write_tar(tmp_path / f"{tar}.tar", [(f"{tar}-{index:05d}.png", os.urandom(50)) for index in range(500)])
    source = TarImages(str(tmp_path))
    rows = source.scan(source.files()["name"].to_pylist())[0].to_pylist()
    opened, real, lock = [], locations.Location.open, threading.Lock()

    def counted(self: locations.Location, name: str) -> object:
        with lock:
            opened.append(name)
        return real(self, name)

    monkeypatch.setattr(locations.Location, "open", counted)
    random.Random(0).shuffle(rows)
    with ThreadPoolExecutor(8) as threads:
        digests = list(threads.map(lambda row: picture_digest(source.read(row["uri"])), rows))
    assert digests == [row["digest"] for row in rows] and sorted(opened) == [f"{tar}.tar" for tar in range(4)]


def test_memory_is_a_picture_at_a_time(tmp_path: Path) -> None:
    """200 MB of other members, and headers that claim to be large, are passed over in pieces."""
    film, pax = tarfile.TarInfo("film.mp4"), tarfile.TarInfo("pax")
    film.size, pax.size, pax.type = 200 << 20, 150 << 20, tarfile.XHDTYPE
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(film.tobuf())
        file.truncate(512 + film.size)
        file.seek(0, os.SEEK_END)
        file.write(pax.tobuf())
        file.truncate(file.tell() + pax.size)
    asked: list[int] = []

    class Recorded:
        def read(self, size: int) -> bytes:
            asked.append(size)
            return file.read(size)

    with (tmp_path / "a.tar").open("rb") as file, pytest.raises(DataError, match="a header of 157,286,400 bytes"):
        list(tar_members.TarStream(Recorded()))
    assert max(asked) <= 1 << 20
