"""Pictures brought to a network's size with gradient: as Pillow brings them, and through the backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.models.differentiable import framed
from scuba_ray.models.pictures import Framed
from scuba_ray.protocols import DifferentiableBackbone

SIZES = [(64, 64), (48, 80), (150, 97), (512, 512), (20, 33)]
"""Width and height."""


def smooth(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture as a decoder gives them: without noise from pixel to pixel."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def phantom() -> OpenClipBackbone:
    return OpenClipBackbone("clip", "phantom:clip").load("cpu")


@pytest.mark.parametrize("size", [*SIZES, (65, 64), (31, 200)])
@pytest.mark.parametrize(
    "frame",
    [
        Framed(64, 64),
        Framed(64, 64, "squash", "bilinear"),
        Framed(60, 64, "longest", fill=200),
        Framed(48, 64),
        Framed(64, 64, "longest", "bilinear"),
    ],
    ids=lambda frame: f"{frame.resize_mode}-{frame.interpolation}-{frame.height}",
)
def test_pictures_are_framed_as_pillow_frames_them(frame: Framed, size: tuple[int, int]) -> None:
    image = smooth(size)
    got = framed(as_tensor(image), frame)[0] * 255
    want = torch.from_numpy(frame(image)).float()
    assert got.shape == want.shape
    difference = (got.clamp(0, 255) - want).abs()
    assert difference.mean() < 0.4, "Pillow rounds to 8 bits after each direction"
    assert difference.max() < 2.1, "and cuts what the first swings beyond them"


@pytest.mark.parametrize("size", SIZES)
def test_embeddings_are_those_of_the_picture(phantom: OpenClipBackbone, size: tuple[int, int]) -> None:
    assert isinstance(phantom, DifferentiableBackbone)
    image = smooth(size)
    want = phantom.embed_images(phantom.preprocess(image)[None])
    got = phantom.embed_pictures(as_tensor(image))
    assert got.dtype == torch.float32
    assert torch.cosine_similarity(got, want).item() > 0.99
    if size == (64, 64):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (40, 50)])
def test_the_gradient_is_the_difference_quotient(phantom: OpenClipBackbone, size: tuple[int, int]) -> None:
    pictures = as_tensor(smooth(size)).requires_grad_()
    direction = torch.randn(phantom.dim, generator=torch.Generator().manual_seed(1))
    (phantom.embed_pictures(pictures) @ direction).sum().backward()
    gradient = pictures.grad
    assert gradient is not None
    step = 0.001 * gradient / gradient.norm()
    with torch.no_grad():
        ahead, behind = (phantom.embed_pictures(pictures + sign * step) @ direction for sign in (1, -1))
    torch.testing.assert_close((ahead - behind).sum() / 0.002, gradient.norm(), rtol=0.02, atol=0)
