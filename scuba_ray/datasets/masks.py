"""Mask expressions: names of regions and mask files joined from left to right, whatever the layout calls a region.

FFA-1 + PPA          and
all - V1v            without
ventral & mine.npy   only within
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.volumes import SUFFIXES
from scuba_ray.errors import ConfigError

Mask = npt.NDArray[np.bool_]
_OPERATORS = {"+", "-", "&"}


def evaluate(expression: str, term: Callable[[str], Mask]) -> Mask:
    """The voxels of a mask expression, (N,) bool; `term` says what a name or a file stands for.

    Raises
    ------
    ConfigError
        If the expression cannot be read.
    """
    words = expression.split()
    if is_file(expression) and not _OPERATORS & set(words):  # a path may have blanks
        words = [expression]
    if len(words) % 2 == 0 or not set(words[1::2]) <= _OPERATORS or set(words[::2]) & _OPERATORS:
        raise ConfigError(
            f"mask {expression!r}: wanted names or files joined by ' + ', ' - ' or ' & ', such as "
            "'floc-faces + floc-places - prf-visualrois'"
        )
    inside_N = term(words[0])
    for operator, word in zip(words[1::2], words[2::2], strict=True):
        other_N = term(word)
        inside_N = inside_N | other_N if operator == "+" else inside_N & (other_N if operator == "&" else ~other_N)
    return inside_N


def is_file(word: str) -> bool:
    """Whether a term names a mask file rather than a region."""
    return word.endswith((*SUFFIXES, ".npy"))
