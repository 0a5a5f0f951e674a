"""Pictures that were sent or named: honest ones are read, others are refused in words that tell nothing about the server."""

from __future__ import annotations

import base64
import io
import os
import struct
import time
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from PIL import Image

from scuba_ray.config.serve import LimitsConfig, ServeConfig
from scuba_ray.errors import DataError
from scuba_ray.serve.picture_headers import picture_size
from scuba_ray.serve.sent_pictures import SentPictures
from scuba_ray.tables import files

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def picture(kind: str = "PNG", size: tuple[int, int] = (37, 21), **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "private" / "pictures"
    (folder / "faces").mkdir(parents=True)
    (folder / "faces" / "a b.png").write_bytes(picture())
    (folder / "%2e%2e.png").write_bytes(picture("BMP"))
    (tmp_path / "private" / "outside.png").write_bytes(picture())
    return folder


def reader(root: Path | str | None = None, **limits: object) -> SentPictures:
    return SentPictures(
        ServeConfig(run="run", root=None if root is None else str(root), limits=LimitsConfig.model_validate(limits))
    )


# ------------------------------------------------------------------------------------------------------- sent along


@pytest.mark.parametrize("kind", FORMATS)
def test_pictures_sent_along_arrive_as_they_are(kind: str) -> None:
    assert reader().read([(b64(picture(kind)), None)] * 3) == [picture(kind)] * 3


@pytest.mark.parametrize(
    "data",
    ["", "!!!!", "iVBORw0K\n", "iVBORw0KG", "data:image/png;base64,iVBORw0K", "éé==", "\x00", "iVBORw0KGgo=", "PHN2Zz4=",
     b64(b"II*\x00" + b"\xff" * 64), b64(b"%!PS-Adobe-3.0 EPSF-3.0"), b64(picture()[:20]), b64(b"\xff\xd8\xff"), "\ud800"],
)  # fmt: skip
def test_what_is_no_picture_has_a_reason(data: str) -> None:
    (reason,) = reader().read([(data, None)])
    assert isinstance(reason, str) and reason


def test_one_bad_picture_does_not_spoil_the_others() -> None:
    good = b64(picture())
    first, reason, last = reader().read([(good, None), ("x", None), (good, None)])
    assert first == last == picture() and isinstance(reason, str)


@pytest.mark.parametrize("both", [(None, None), ("iVBORw0KGgo=", "a.png")])
def test_one_of_data_and_uri_is_wanted(both: tuple[str | None, str | None]) -> None:
    assert reader("/").read([both]) == ["wanted either data (base64) or uri"]


def test_large_files_are_refused_before_they_are_decoded() -> None:
    (reason,) = reader(picture_mib=0.001).read([("A" * 4000, None)])
    assert isinstance(reason, str) and "limits.picture_mib" in reason


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_unfolds_to_too_many_pixels_is_refused_by_its_header(kind: str) -> None:
    (reason,) = reader(pixels=37 * 21 - 1).read([(b64(picture(kind)), None)])
    assert isinstance(reason, str) and reason.startswith("37 x 21 pixels") and "limits.pixels" in reason
    assert reader(pixels=37 * 21).read([(b64(picture(kind)), None)]) == [picture(kind)]


# ------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("size", [(1, 1), (255, 300), (1000, 7)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True, "exif": Image.Exif()}), ("JPEG", {"comment": b"x" * 60_000}),
     ("WEBP", {"lossless": True}), ("WEBP", {"lossless": False}), ("WEBP", {"exif": b"Exif\x00\x00"}), ("GIF", {}), ("BMP", {})],
)  # fmt: skip
def test_headers_say_what_pillow_says(kind: str, options: dict[str, object], size: tuple[int, int]) -> None:
    assert picture_size(picture(kind, size, **options)) == size


@pytest.mark.parametrize("kind", FORMATS)
def test_a_header_cut_anywhere_or_spoilt_is_an_error_in_words_or_a_size(kind: str) -> None:
    whole = picture(kind)
    rng = np.random.default_rng(1)
    spoilt = [whole[:cut] for cut in range(64)]
    for _ in range(300):
        data = bytearray(whole[:200])
        data[rng.integers(0, 40)] = rng.integers(0, 256)
        spoilt.append(bytes(data))
    for data in spoilt:
        try:
            width, height = picture_size(data)
        except DataError:
            continue
        assert width >= 0 and height >= 0


def test_a_jpeg_of_empty_segments_takes_no_time() -> None:
    began = time.perf_counter()
    with pytest.raises(DataError, match="frame header"):
        picture_size(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 4_000_000)
    assert time.perf_counter() - began < 1


def test_sizes_beyond_any_memory_are_read_not_made() -> None:
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**31 - 1, 2**31 - 1)
    assert picture_size(huge) == (2**31 - 1, 2**31 - 1)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<Iii", 40, 10, -20)) == (10, 20), "rows from the top"
    assert picture_size(b"BM" + bytes(12) + struct.pack("<IHH", 12, 10, 20)) == (10, 20), "OS/2"


# ------------------------------------------------------------------------------------------------------- named


def test_pictures_below_the_root_are_read(root: Path) -> None:
    (root / "link.png").symlink_to(root / "faces" / "a b.png")
    (root / "folder").symlink_to(root / "faces")
    names = ["faces/a b.png", "link.png", "folder/a b.png", f"{root}/faces/a b.png"]
    assert reader(root).read([(None, name) for name in names]) == [picture()] * 4
    assert reader(root.as_uri()).read([(None, "%2e%2e.png")]) == [picture("BMP")], "on a disk a percent sign is a character"


def hostile(root: Path) -> list[str]:
    (root / "out.png").symlink_to(root.parent / "outside.png")
    (root / "up").symlink_to(root.parent)
    (root / "circle").symlink_to(root / "circle")
    (root / "device").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.png")
    (root / "secret.txt").write_text("secret")
    return [
        "../outside.png", "faces/../../outside.png", "..", ".", "", "/", "//", "faces//a b.png", "./faces/a b.png", "faces/",
        str(root.parent / "outside.png"), (root.parent / "outside.png").as_uri(), f"{root}/../outside.png", f"{root}x/y.png",
        "file:" + "///etc/passwd", "/etc/passwd", "http://127.0.0.1/x.png", "s3://bucket/x.png", "data:image/png;base64,iVBO",
        "out.png", "up/outside.png", "up/pictures/../outside.png", "circle", "device", "pipe.png", "faces", "nothing.png",
        "%2e%2e/outside.png", "..%2foutside.png", "..\\outside.png", "faces/a b.png\x00", "\x00", "a\nb", "x" * 5000, "a/" * 600,
        "x" * 300, "secret.txt", "\ud800.png", "~/x.png", "faces/a b.png/x", "\u2025/outside.png", "．．/outside.png",
    ]  # fmt: skip


def test_nothing_else_is_read_and_no_place_is_named(root: Path) -> None:
    names = hostile(root)
    for name, reason in zip(names, reader(root).read([(None, name) for name in names]), strict=True):
        assert isinstance(reason, str), name
        assert str(root.parent) not in reason or str(root.parent) in name, reason
        assert len(reason) < 2000


def test_what_lies_outside_is_told_like_what_is_not_there(root: Path) -> None:
    hostile(root)
    reasons = {
        reader(root).read([(None, name)])[0].replace(name, "NAME") for name in ("out.png", "nothing.png", "faces", "pipe.png")
    }
    assert len(reasons) == 1


def test_without_a_root_no_uri_is_read(root: Path) -> None:
    for name in ("faces/a b.png", str(root / "faces" / "a b.png"), "/etc/passwd"):
        (reason,) = reader().read([(None, name)])
        assert isinstance(reason, str) and "reads no pictures by URI" in reason


def test_a_few_bytes_of_uris_cannot_fill_the_memory(root: Path) -> None:
    (root / "large.bmp").write_bytes(picture("BMP", (100, 100)))  # 30,054 bytes
    found = reader(root, body_mib=0.1).read([(None, "large.bmp")] * 50)
    assert sum(isinstance(one, bytes) for one in found) == 3
    assert all("limits.body_mib" in one for one in found if isinstance(one, str))
    (reason,) = reader(root, picture_mib=0.01).read([(None, "large.bmp")])
    assert isinstance(reason, str) and "limits.picture_mib" in reason


def test_a_store_is_read_below_its_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = (pafs.LocalFileSystem(), str(root))
    monkeypatch.setattr(files, "filesystem", lambda location: place)
    store = reader("s3://bucket/pictures")
    assert store.read([(None, "faces/a b.png"), (None, "s3://bucket/pictures/faces/a b.png")]) == [picture()] * 2
    for name in ("%2e%2e.png", "faces/a b.png?x", "a#b", "faces", "nothing", "../outside.png", "s3://bucket/other/x.png"):
        (reason,) = store.read([(None, name)])
        assert isinstance(reason, str) and str(root) not in reason
