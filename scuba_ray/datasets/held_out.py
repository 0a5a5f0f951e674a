"""Test images where a data set brings none: a share of the images, drawn by what each is called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from scuba_ray.errors import ConfigError


def check_share(share: float) -> None:
    """Raise ConfigError unless a share of images can be held out."""
    if not 0 < share < 1:
        raise ConfigError(f"test_share must be larger than 0 and smaller than 1, got {share}")


def held_out(names: Iterable[str], share: float, seed: int) -> set[str]:
    """About `share` of the images, each chosen by a hash of its name and the seed alone.

    An image that is held out for one subject is held out for every subject that saw it, whatever else they saw, so test sets of
    several subjects agree where their images do.
    """
    return {name for name in names if _uniform(name, seed) < share}


def _uniform(name: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)
