"""What a network sees of a picture, 8 bits a value: cut and resampled as open_clip does it, in Pillow alone.

open_clip's transform is torchvision's, which on a picture is Pillow's; the same calls are made here without torch, so that a
process of its own can make them (`datasets.decoder`). Equal to the last bit (`tests/models/test_pictures.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

OPEN_CLIP: Mapping[str, Any] = {
    "size": 224,
    "mode": "RGB",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""open_clip's preprocessing where a model says nothing of its own (`open_clip.transform.PreprocessCfg`)."""
LARGEST = 200_000_000
"""Pixels that a picture may have while it is resampled: one a pixel high, brought to 224, would have millions of columns."""


@dataclass(frozen=True)
class Framed:
    """A picture brought to a network's size: call with an RGB picture, get uint8 (3, height, width).

    Raises
    ------
    ValueError
        From the call, if the picture is too thin to be resampled.
    """

    height: int
    width: int
    resize_mode: str = "shortest"
    """`shortest` side to the network's, the rest cut off; `longest`, the rest filled; `squash`, sides apart."""
    interpolation: str = "bicubic"
    fill: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Framed:
        """Build it from settings in open_clip's words (those of `OPEN_CLIP`)."""
        size = settings["size"]
        height, width = size if isinstance(size, Sequence) else (size, size)
        return cls(height, width, settings["resize_mode"], settings["interpolation"], settings["fill_color"])

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the picture as the network sees it, before normalisation, (3, height, width)."""
        height, width = self.resized(image.height, image.width)
        if height * width > LARGEST:
            raise ValueError(f"{image.width} x {image.height} pixels are too thin: resampled, they are {width} x {height}")
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), self.filter)
        if self.resize_mode != "squash":
            image = _cropped(image, self.height, self.width, self.fill if self.resize_mode == "longest" else 0)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture before the crop, rounded where torchvision (down) and open_clip (to even) do."""
        if self.resize_mode == "squash":
            return self.height, self.width
        if self.resize_mode == "shortest" and self.height == self.width:
            short, long = sorted((height, width))
            longer = int(self.height * long / short)
            return (longer, self.width) if height > width else (self.height, longer)
        pick = max if self.resize_mode == "longest" else min
        ratio = pick(height / self.height, width / self.width)
        return round(height / ratio), round(width / ratio)

    @property
    def filter(self) -> Image.Resampling:
        """How it is resampled."""
        # open_clip's `shortest` for sides that differ knows no other than bicubic
        apart = self.resize_mode == "shortest" and self.height != self.width
        return Image.Resampling.BILINEAR if self.interpolation == "bilinear" and not apart else Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Squeezed:
    """The whole picture in a square of `side` pixels: call with an RGB picture, get uint8 (3, side, side)."""

    side: int

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the picture, (3, side, side)."""
        if image.size != (self.side, self.side):
            image = image.resize((self.side, self.side), Image.Resampling.BICUBIC)  # over the area that a pixel comes from
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _cropped(image: Image.Image, height: int, width: int, fill: int) -> Image.Image:
    """The middle of a picture; one that is smaller is filled up first."""
    missing_w, missing_h = max(width - image.width, 0), max(height - image.height, 0)
    if missing_w or missing_h:
        border = (missing_w // 2, missing_h // 2, (missing_w + 1) // 2, (missing_h + 1) // 2)
        image = ImageOps.expand(image, border, (fill, fill, fill))
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
