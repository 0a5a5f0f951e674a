"""What a network sees of a picture, with gradient: `models.pictures.Framed` in torch.

Pillow rounds to 8 bits and cuts what a bicubic filter swings beyond them; torch's filter with antialiasing is the same filter
without either, so that every pixel has a gradient. A picture of the network's own size is the same to the last bit.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch.nn import functional

from scuba_ray.models.pictures import Framed


def framed(pictures_B3HW: torch.Tensor, frame: Framed) -> torch.Tensor:
    """Bring pictures to a network's size: resampled, then cut from the middle or filled up, as `frame` does it.

    Parameters
    ----------
    pictures_B3HW : Tensor of shape (B, 3, H, W)
        Floating point, in [0, 1].

    Returns
    -------
    pictures_B3HW : Tensor of shape (B, 3, frame.height, frame.width)
    """
    size = frame.resized(*pictures_B3HW.shape[2:])
    if size != tuple(pictures_B3HW.shape[2:]):
        mode = "bilinear" if frame.filter is Image.Resampling.BILINEAR else "bicubic"
        pictures_B3HW = functional.interpolate(pictures_B3HW, size, mode=mode, align_corners=False, antialias=True)
    missing_h, missing_w = (max(want - got, 0) for want, got in zip((frame.height, frame.width), size, strict=True))
    if missing_h or missing_w:
        border = (missing_w // 2, (missing_w + 1) // 2, missing_h // 2, (missing_h + 1) // 2)
        fill = frame.fill / 255 if frame.resize_mode == "longest" else 0.0
        pictures_B3HW = functional.pad(pictures_B3HW, border, value=fill)
    height, width = pictures_B3HW.shape[2:]
    top, left = round((height - frame.height) / 2), round((width - frame.width) / 2)
    return pictures_B3HW[:, :, top : top + frame.height, left : left + frame.width]
