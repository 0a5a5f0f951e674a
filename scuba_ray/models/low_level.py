"""The low-level baseline as a feature space like any other: pixels in, size, luminance, contrast and spatial frequencies out.

No network and no weights. It goes the way of every backbone (encode, fit, significance) under the name `low-level`; it is never
projected or captioned, and it has no text tower.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from scuba_ray.core.low_level import BANDS, DIFFERS, NAMES, ORIENTATIONS, SIDE, low_level_features
from scuba_ray.errors import ConfigError
from scuba_ray.models.pictures import Squeezed
from scuba_ray.protocols import LOW_LEVEL, Scaling

if TYPE_CHECKING:
    from PIL import Image

MODEL = f"pixels:{LOW_LEVEL}"
VERSION = 1
"""Raised when the same picture gives other features."""


class LowLevelBackbone:
    """The features of `core.low_level`, scaled by the training images' mean and deviation where they are fitted.

    Raises
    ------
    ConfigError
        If `model` is not `pixels:low-level`.
    """

    scaling: Scaling = "standard"
    dim = len(NAMES)
    preprocessing = Squeezed(SIDE)

    def __init__(self, name: str, model: str) -> None:
        if model != MODEL:
            raise ConfigError(f"backbone {name}: the only features of pixels are {MODEL}, got {model!r}")
        self.name = name
        self._device = "cpu"

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the formulas' version and constants."""
        made_of = repr((MODEL, VERSION, SIDE, BANDS, ORIENTATIONS, DIFFERS))
        return hashlib.sha256(made_of.encode()).hexdigest()[:16]

    def load(self, device: str) -> LowLevelBackbone:
        """Return self; there is nothing to read."""
        self._device = device
        return self

    def normalise(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Return uint8 pictures as float32, 0 to 1."""
        return pixels_B3HW.to(self._device, non_blocking=True).float() / 255

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Return the whole picture, resampled to a square of `SIDE` pixels, float32 (3, SIDE, SIDE), 0 to 1."""
        return self.normalise(torch.from_numpy(self.preprocessing(image))[None])[0]

    @torch.inference_mode()
    def embed_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Return the features (B, 19), float32."""
        return low_level_features(pixels_B3HW.to(self._device))

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Refuse: ConfigError."""
        raise ConfigError(f"backbone {self.name} ({MODEL}) has no text tower; it measures pixels")
