"""Random assignments for controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def random_cycles(generator: np.random.Generator, parts: Sequence[Sequence[int]], count: int) -> npt.NDArray[np.int64]:
    """For each of `count` items another one of its part, each used once: a random cycle through every part.

    An item that is in no part, or alone in its part, is given itself.
    """
    other = np.arange(count)
    for part in parts:
        cycle = generator.permutation(np.asarray(part, np.int64))
        other[cycle] = np.roll(cycle, 1)
    return other
