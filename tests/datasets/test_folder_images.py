from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scuba_ray.datasets import locations
from scuba_ray.datasets.content import picture_digest
from scuba_ray.datasets.images import FolderImages
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import ImageSource


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture = encoded(Image.new("RGB", (4, 4), "red"))
    for name in ("b.png", "a/2.PNG", "a/10.jpg", "notes.txt", ".hidden.png", ".cache/x.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    return tmp_path / "pictures"


def test_files_are_recursive_sorted_and_relative(folder: Path) -> None:
    source: ImageSource = FolderImages(str(folder))
    files = source.files()
    assert files["name"].to_pylist() == ["a/10.jpg", "a/2.PNG", "b.png"]
    assert files["bytes"].to_pylist() == [(folder / name).stat().st_size for name in files["name"].to_pylist()]
    assert source.read("a/2.PNG") == (folder / "a/2.PNG").read_bytes()
    assert pickle.loads(pickle.dumps(source)).files().equals(files)


def test_a_location_of_pyarrow_works_as_a_path_does(folder: Path) -> None:
    by_uri = FolderImages(folder.as_uri())
    assert by_uri.files().equals(FolderImages(str(folder)).files())
    assert by_uri.fingerprint() == FolderImages(str(folder)).fingerprint()


def test_fingerprint_sees_names_sizes_and_bytes(folder: Path) -> None:
    first = FolderImages(str(folder)).fingerprint()
    (folder / "notes.txt").write_text("more")
    assert FolderImages(str(folder)).fingerprint() == first
    (folder / "b.png").write_bytes(encoded(Image.new("RGB", (4, 4), "lime")))
    second = FolderImages(str(folder)).fingerprint()
    (folder / "b.png").rename(folder / "c.png")
    assert len({first, second, FolderImages(str(folder)).fingerprint()}) == 3


def test_a_scan_says_what_is_wrong_and_goes_on(folder: Path) -> None:
    source = FolderImages(str(folder))
    files = source.files()
    (folder / "a/2.PNG").write_bytes(b"")
    (folder / "b.png").unlink()
    table, bad = source.scan([*files["name"].to_pylist(), "../b.png"])
    assert table["image_id"].to_pylist() == table["uri"].to_pylist() == ["a/10.jpg"]
    assert table["digest"].to_pylist() == [picture_digest((folder / "a/10.jpg").read_bytes())]
    assert [one.key for one in bad] == ["image_id=a/2.PNG", "image_id=b.png", "image_id=../b.png"]
    for row, words in zip(bad, ("empty file", "cannot be read", "must be a path inside"), strict=True):
        assert words in row.reason


def test_missing_pictures_and_empty_folders(folder: Path, tmp_path: Path) -> None:
    for uri in ("none.png", "a", "../secret.png", "/etc/passwd", ""):
        with pytest.raises(DataError):
            FolderImages(str(folder)).read(uri)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures below"):
        FolderImages(str(tmp_path / "empty")).files()
    with pytest.raises(ConfigError):
        FolderImages(str(folder / "b.png"))


def test_every_mode_becomes_rgb() -> None:
    palette = Image.new("RGB", (8, 8), (200, 0, 0)).quantize(4)
    for image, kind in (
        (palette, "PNG"), (Image.new("L", (8, 8), 200), "PNG"), (Image.new("1", (8, 8)), "PNG"),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), (Image.new("LA", (8, 8), (9, 9)), "PNG"),
    ):  # fmt: skip
        decoded = decode_image(encoded(image, kind))
        assert decoded.mode == "RGB" and decoded.size == (8, 8)
    red = np.asarray(decode_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")))[0, 0]
    assert red[0] > 200 and red[1] < 60


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert decode_image(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert decode_image(encoded(palette, "GIF", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.full((3, 3), 0x8000, np.uint16))
    assert decode_image(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_orientation_is_applied() -> None:
    image = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(image, "JPEG", exif=exif)).size == (4, 8)


def test_unreadable_pictures_say_why() -> None:
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    for data, words in ((b"", "empty file"), (b"<html>", "not a readable picture"), (whole[:800], "truncated")):
        with pytest.raises(DataError, match=words):
            decode_image(data)
    with pytest.raises(DataError, match="64 x 64 pixels, more than max_pixels \\(100\\)"):
        decode_image(whole, max_pixels=100)
    with pytest.raises(DataError, match="no stated range"):
        decode_image(encoded(Image.new("F", (4, 4)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_damage_anywhere_is_a_data_error_or_a_picture(kind: str) -> None:
    whole = bytearray(encoded(Image.effect_noise((24, 24), 80).convert("RGB"), kind))
    generator = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 4):
            data[place] = generator.integers(0, 256)
        try:
            assert decode_image(bytes(data[: generator.integers(1, len(data))]), max_pixels=10_000).mode == "RGB"
        except DataError as error:
            assert str(error)


def test_a_picture_that_cannot_be_read_is_a_bad_row_and_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "huge.png").write_bytes(bytes(10_000))
    monkeypatch.setattr(locations, "MAX_BYTES", 5_000)
    source = FolderImages(str(folder))
    table, bad = source.scan(source.files()["name"].to_pylist())
    assert len(table) == 3 and [row.key for row in bad] == ["image_id=huge.png"] and "no picture" in bad[0].reason
    fingerprint = source.fingerprint()
    (folder / "huge.png").unlink()
    assert FolderImages(str(folder)).fingerprint() != fingerprint == source.fingerprint()
