"""What a phantom is made from: a handful of numbers, checked, and their identity as written beside the data."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from scuba_ray.errors import ConfigError
from scuba_ray.phantom import seeds
from scuba_ray.phantom.cortex import MOST_VOXELS

LEAST_VOXELS = 60
LEAST_IMAGES = 100
MAKER = 1
"""Raised when the same numbers give other files."""


@dataclass(frozen=True)
class PhantomSpec:
    """Two folders of one spec hold the same bytes.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    seed: int = 0
    voxels: int = 2000
    images: int = 3000
    bank: int = 20_000
    permuted: bool = False

    def __post_init__(self) -> None:
        seeds.generator(seeds.STIMULI, self.seed)
        ranges = {"voxels": (LEAST_VOXELS, MOST_VOXELS), "images": (LEAST_IMAGES, 1_000_000), "bank": (1, 10_000_000)}
        for name, (least, most) in ranges.items():
            got = getattr(self, name)
            if not least <= got <= most:
                raise ConfigError(f"a phantom's {name} must be {least} to {most}, got {got}")

    def identity(self) -> dict[str, Any]:
        """The numbers, the version of the code and a digest of the drawings."""
        return {**asdict(self), "maker": MAKER, "drawings": _drawings_digest()}


def _drawings_digest() -> str:
    sprites = files("scuba_ray") / "phantom" / "sprites"
    digest = hashlib.sha256()
    for name in ("drawings.json", "noto.webp", "twemoji.webp"):
        digest.update((sprites / name).read_bytes())
    return digest.hexdigest()[:16]
