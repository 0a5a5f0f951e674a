"""Batches of one size, however many are asked for, and smaller ones where memory ends."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from scuba_ray.errors import WorkerError
from scuba_ray.models.batches import Batches
from scuba_ray.protocols import ImageRequest


def requests(count: int) -> list[ImageRequest]:
    return [ImageRequest("", seed) for seed in range(count)]


def gpu() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def cpu() -> Exception:
    """What torch itself raises."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    return RuntimeError(str(raised.value))


def cublas() -> Exception:
    return RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")


def driver() -> Exception:
    return RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.")


def cudnn() -> Exception:
    return RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


class Painter:
    """Paints a request's seed, as many at once as fit."""

    def __init__(self, fits: int, ends: Callable[[], Exception] = gpu) -> None:
        self.fits = fits
        self.ends = ends
        self.tried: list[int] = []
        self.left: weakref.ref[np.ndarray] | None = None

    def __call__(self, batch: list[ImageRequest]) -> list[np.ndarray]:
        self.tried.append(len(batch))
        pictures = [np.full((4, 4, 3), request.seed, np.uint8) for request in batch]
        if len(batch) > self.fits:
            self.left = weakref.ref(pictures[0])
            raise self.ends()
        if self.left is not None:
            assert self.left() is None, "what the failed batch held is free before the next one starts"
        return pictures


@pytest.mark.parametrize("count", [0, 1, 8, 11])
def test_every_batch_has_the_same_size_and_every_request_its_picture(count: int) -> None:
    painter = Painter(fits=100)
    made = Batches(4).run(requests(count), painter)
    assert [image.pixels_HW3[0, 0, 0] for image in made] == list(range(count))
    assert set(painter.tried) <= {4} and len(painter.tried) == -(-count // 4)
    assert all(image.batch == 4 and image.seconds > 0 and not image.truncated for image in made)


def test_a_full_memory_halves_the_batch_for_good() -> None:
    batches, painter = Batches(8), Painter(fits=3)
    made = batches.run(requests(5), painter)
    assert [image.pixels_HW3[0, 0, 0] for image in made] == list(range(5))
    assert {image.batch for image in made} == {2} and painter.tried == [8, 4, 2, 2, 2]
    batches.run(requests(2), painter)
    assert painter.tried[5:] == [2], "it is not tried again"


def test_memory_that_ends_midway_costs_only_the_batch_it_ends_in() -> None:
    batches, painter = Batches(4), Painter(fits=4)

    def shrinking(batch: list[ImageRequest]) -> list[np.ndarray]:
        pictures = painter(batch)
        painter.fits = 2
        return pictures

    made = batches.run(requests(8), shrinking)
    assert [image.pixels_HW3[0, 0, 0] for image in made] == list(range(8))
    assert [image.batch for image in made] == [4] * 4 + [2] * 4


@pytest.mark.parametrize("ends", [cpu, gpu, cublas, driver, cudnn, MemoryError])
def test_memory_ends_in_several_words(ends: Callable[[], Exception]) -> None:
    batches = Batches(6)
    batches.run(requests(6), Painter(3, ends))
    assert batches.size == 3


def test_one_picture_that_does_not_fit_says_what_to_do() -> None:
    painter = Painter(fits=0)
    with pytest.raises(WorkerError, match=r"one picture at a time.*CUDA out of memory.*precision.*size"):
        Batches(3).run(requests(2), painter)
    assert painter.tried == [3, 1]


def test_another_error_is_not_about_memory() -> None:
    painter = Painter(fits=1, ends=lambda: RuntimeError("expected scalar type Half"))
    with pytest.raises(RuntimeError, match="scalar type"):
        Batches(2).run(requests(2), painter)
    assert painter.tried == [2]
