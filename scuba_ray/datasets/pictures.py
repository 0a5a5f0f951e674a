"""The decoder: bytes become an RGB picture, or a stated reason why not; and pixels that were made become a file.

Imports Pillow and numpy only: a process that does nothing but decode (`datasets.decoder`) starts in a fraction of a second.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from scuba_ray.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""What counts as a picture in a folder, by the end of its name, in any case; other files are not looked at."""
MAX_PIXELS = 100_000_000
"""Pixels above which a picture is refused, unless the caller says otherwise."""

Kind = Literal["unreadable", "too large", "crashed", "too slow"]

# what Pillow raises on damaged files, format by format
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error,
    zlib.error, Image.DecompressionBombWarning,
)  # fmt: skip


class PictureError(DataError):
    """A picture that gives no pixels: `kind` for counting, the message for the reader."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one picture to RGB, upright (EXIF orientation applied), transparency laid on white, first frame of an animation.

    16-bit grey pictures are scaled to 8 bits (Pillow's own conversion clips them).

    Raises
    ------
    PictureError
        With the reason: empty, not a picture, truncated or damaged, more than `max_pixels`, or a pixel type without a range.
    """
    if not data:
        raise PictureError("unreadable", "empty file")
    try:
        image = Image.open(io.BytesIO(data))
        width, height = image.size
        if width * height > max_pixels:
            raise PictureError(
                "too large",
                f"{width} x {height} pixels, more than max_pixels ({max_pixels}): refused as a decompression bomb",
            )
        image.load()
        return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise PictureError("unreadable", "not a readable picture: its bytes are of no known format") from error
    except Image.DecompressionBombError as error:
        raise PictureError("too large", f"refused as a decompression bomb: {error}") from error
    except _DAMAGED as error:
        raise PictureError("unreadable", f"not a readable picture: {error or type(error).__name__}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"}:
        raise PictureError(
            "unreadable", f"pixel type {image.mode} (32-bit) has no stated range; convert the picture to 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def png_of(pixels_HW3: npt.NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, "PNG")
    return file.getvalue()
