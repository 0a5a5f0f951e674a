"""Columns of numbers as short text for the page: whole steps of a size in few bytes each, base64 of little-endian integers."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING = -32768
"""Stands for a number that is missing, NaN or infinite."""


def base64_of(array: npt.NDArray[Any], kind: str) -> str:
    """An array's numbers as base64 of `kind` (a numpy type such as `<i2`)."""
    return base64.b64encode(np.ascontiguousarray(array.astype(kind)).tobytes()).decode("ascii")


def steps(values: Iterable[float | None], step: float = 1e-4) -> str:
    """Numbers between -3.2767 and 3.2767 as two bytes each, exact to half a step; what lies outside becomes the range's end."""
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    known = np.isfinite(numbers)
    whole = np.clip(np.round(np.where(known, numbers, 0) / step), MISSING + 1, -MISSING - 1)
    return base64_of(np.where(known, whole, MISSING), "<i2")
