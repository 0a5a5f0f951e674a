"""Pictures made in batches of one size: a picture depends neither on those beside it nor on how many were asked for.

The last batch is filled up with its last request again, and what that gives is thrown away. Where memory ends, the size is
halved, once and for all.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scuba_ray.errors import WorkerError
from scuba_ray.protocols import ImageRequest, MadeImage

if TYPE_CHECKING:
    import numpy as np

Make = Callable[[list[ImageRequest]], "list[np.ndarray]"]
"""One batch of requests to their pictures, uint8 (H, W, 3) each, in order."""


class Batches:
    """Runs requests `size` at a time. `size` only ever shrinks: 8, 4, 2, 1 where memory ends."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, requests: Sequence[ImageRequest], make: Make) -> list[MadeImage]:
        """Pictures in the order of the requests, with their time and the batch they were made in.

        Raises
        ------
        WorkerError
            If memory ends with a single picture.
        """
        made: list[MadeImage] = []
        while len(made) < len(requests):
            asked = list(requests[len(made) : len(made) + self.size])
            began = time.perf_counter()
            pictures = self._made(asked + asked[-1:] * (self.size - len(asked)), make)
            if pictures is None:
                continue  # again from here, with the smaller size
            seconds = (time.perf_counter() - began) / len(asked)
            made += [MadeImage(pixels_HW3, seconds, self.size) for pixels_HW3 in pictures[: len(asked)]]
        return made

    def _made(self, batch: list[ImageRequest], make: Make) -> list[np.ndarray] | None:
        """A batch's pictures; none if memory ended, and then `size` is smaller."""
        try:
            return make(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.size == 1:
                raise WorkerError(
                    f"memory ends with one picture at a time ({_first_line(error)}); set `synthesize.diffusion.precision` to "
                    "float16 or bfloat16, a smaller `size`, a smaller model, or run where there is more memory"
                ) from error
        # only out here, where the error is gone, does nothing hold what the failed batch had made
        self.size //= 2
        _free()
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ended: a GPU's (torch's, its driver's, its libraries'), the CPU allocator's, or Python's.

    Where Linux ends the process instead, as it often does on a CPU, there is no error to see: the worker is lost.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return any(words in said for words in ("out of memory", "_STATUS_ALLOC_FAILED", "DefaultCPUAllocator"))


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
