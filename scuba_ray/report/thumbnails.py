"""Small pictures of the bank images a page names: sprite sheets in WebP, each picture once, within a budget of bytes.

The pictures nearest to the most voxels come first, so that a small budget still serves most panels.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import DataError
from scuba_ray.protocols import ImageSource

SIDE = 64
"""Pixels of a thumbnail's side."""
COLUMNS = 16
"""Thumbnails in a row of a sheet; a sheet has as many rows."""
QUALITY = 70
BLUR = SIDE / 8
"""Radius in pixels of a blurred thumbnail: no face or letter of the original is left, its colours and rough shapes are."""


def by_use(nearest: Sequence[Sequence[int]], per_voxel: int) -> list[int]:
    """Image numbers in the order thumbnails are made: those that are nearest first, then second, ...; the most used first.

    `nearest` holds, for each set, `per_voxel` image numbers for every voxel on end, -1 where there is none.
    """
    order: dict[int, None] = {}
    for place in range(per_voxel):
        used = Counter(image for column in nearest for image in column[place::per_voxel])
        used.pop(-1, None)
        order.update(dict.fromkeys(image for image, _ in used.most_common()))
    return list(order)


def sheets(
    order: Sequence[int], uris: Mapping[int, str], source: ImageSource, budget: int, *, blurred: bool = False
) -> dict[str, Any]:
    """Sprite sheets of the images in `order` until `budget` bytes of base64 are used.

    Returns
    -------
    dict
        side, columns, sheets (data URIs), place (image number to place, counted through all sheets), unreadable (how many
        pictures could not be read or decoded, and are left out).
    """
    place: dict[int, int] = {}
    made: list[str] = []
    unreadable = [0]
    pictures = _pictures(order, uris, source, unreadable, blurred)
    used, full = 0, COLUMNS * COLUMNS
    while used < budget and (batch := list(islice(pictures, full))):
        data = "data:image/webp;base64," + base64.b64encode(_sheet([picture for _, picture in batch])).decode("ascii")
        used += len(data)
        if used > budget and made:
            break
        place.update({image: len(made) * full + index for index, (image, _) in enumerate(batch)})
        made.append(data)
    return {"side": SIDE, "columns": COLUMNS, "sheets": made, "place": place, "unreadable": unreadable[0]}


def _pictures(
    order: Sequence[int], uris: Mapping[int, str], source: ImageSource, unreadable: list[int], blurred: bool
) -> Iterator[tuple[int, Image.Image]]:
    for image in order:
        if image not in uris:
            continue
        try:
            picture = decode_image(source.read(uris[image]))
        except DataError:
            unreadable[0] += 1
            continue
        small = square(picture, SIDE)
        yield image, small.filter(ImageFilter.GaussianBlur(BLUR)) if blurred else small


def square(picture: Image.Image, side: int) -> Image.Image:
    """The middle square, as the backbone's own preprocessing crops it, at `side` pixels."""
    crop = min(picture.size)
    left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
    return picture.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + crop, top + crop))


def _sheet(pictures: Sequence[Image.Image]) -> bytes:
    rows = -(-len(pictures) // COLUMNS)
    sheet = np.zeros((rows * SIDE, COLUMNS * SIDE, 3), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // COLUMNS * SIDE, index % COLUMNS * SIDE
        sheet[top : top + SIDE, left : left + SIDE] = np.asarray(picture)
    sink = io.BytesIO()
    Image.fromarray(sheet).save(sink, "WEBP", quality=QUALITY, method=4)
    return sink.getvalue()
