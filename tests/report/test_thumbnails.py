"""Sprite sheets: the most used first, within the budget, unreadable pictures counted."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from scuba_ray.datasets.images import FolderImages
from scuba_ray.report.palette import region_colours
from scuba_ray.report.thumbnails import COLUMNS, SIDE, by_use, sheets


def test_order_is_by_place_then_use() -> None:
    nearest = [[5, 1, 7, 2, 5, 3, 7, 9, -1, -1]]
    assert by_use(nearest, 2)[:2] == [5, 7] or by_use(nearest, 2)[:2] == [7, 5]
    assert set(by_use(nearest, 2)[2:]) == {1, 2, 3, 9}


def folder(path: Path, count: int) -> FolderImages:
    for index in range(count):
        Image.new("RGB", (90, 70), (index % 256, 255 - index % 256, 128)).save(path / f"{index:04d}.png")
    return FolderImages(str(path))


def test_each_picture_is_at_its_place(tmp_path: Path) -> None:
    count = COLUMNS * COLUMNS + 30
    source = folder(tmp_path, count)
    (tmp_path / "0003.png").write_bytes(b"not a picture")
    made = sheets(range(count), {index: f"{index:04d}.png" for index in range(count)}, source, 10**7)
    assert made["unreadable"] == 1 and 3 not in made["place"] and len(made["place"]) == count - 1
    assert sorted(made["place"].values()) == list(range(count - 1)) and len(made["sheets"]) == 2
    for image in (0, 17, 255, 280):
        sheet, place = divmod(made["place"][image], COLUMNS * COLUMNS)
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["sheets"][sheet].split(",")[1]))))
        top, left = place // COLUMNS * SIDE, place % COLUMNS * SIDE
        middle = pixels[top + SIDE // 2, left + SIDE // 2].astype(int)
        np.testing.assert_allclose(middle, [image % 256, 255 - image % 256, 128], atol=14)


def test_budget_ends_the_sheets(tmp_path: Path) -> None:
    count = 3 * COLUMNS * COLUMNS
    source = folder(tmp_path, count)
    uris = {index: f"{index:04d}.png" for index in range(count)}
    whole = sheets(range(count), uris, source, 10**7)
    half = sheets(range(count), uris, source, int(sum(map(len, whole["sheets"])) * 0.7))
    assert len(whole["sheets"]) == 3 and 1 <= len(half["sheets"]) < 3
    assert len(half["place"]) == COLUMNS * COLUMNS * len(half["sheets"])
    assert sheets(range(count), uris, source, 0)["place"] == {}


def test_blurred_pictures_lose_their_details_and_keep_their_colours(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4], stripes[:, 1::4] = 255, 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    contrast, mean = {}, {}
    for blurred in (False, True):
        made = sheets([0], {0: "stripes.png"}, FolderImages(str(tmp_path)), 10**6, blurred=blurred)
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["sheets"][0].split(",")[1]))).convert("L"), float)
        contrast[blurred], mean[blurred] = pixels[16:48, 16:48].std(), pixels[16:48, 16:48].mean()
    assert contrast[False] > 50 and contrast[True] < 5 and abs(mean[True] - mean[False]) < 15


def test_regions_keep_their_colour_in_every_run() -> None:
    small, large = region_colours(["faces", "food"]), region_colours(["FFA-1", "PPA", "food", "words", "faces"])
    assert small["faces"] == large["faces"] and small["food"] == large["food"]
    assert len(set(large.values())) == len(large)
    twelve = region_colours(f"area {index:02d}" for index in range(12))
    assert len(set(twelve.values())) == 12
