"""The formulas of guided denoising against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from scuba_ray.core.guidance import (
    Prediction,
    attended,
    blend,
    blur,
    clean_of,
    degraded,
    guided,
    noise_of,
    said_of,
)

ALPHAS = [0.9991, 0.5, 0.0047]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("alpha_bar", ALPHAS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_what_a_network_says_is_the_noise_and_back(prediction: Prediction, alpha_bar: float) -> None:
    x0, eps = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    x_t = signal * x0 + noise * eps
    said = {"epsilon": eps, "v_prediction": signal * eps - noise * x0, "sample": x0}[prediction]
    torch.testing.assert_close(noise_of(said, x_t, alpha_bar, prediction), eps)
    torch.testing.assert_close(said_of(eps, x_t, alpha_bar, prediction), said)
    torch.testing.assert_close(clean_of(eps, x_t, alpha_bar), x0)


def test_the_blend_is_the_prediction_under_noise_and_the_state_without() -> None:
    x0, x_t = drawn(1, 2, 4, 4), drawn(1, 2, 4, 4, seed=1)
    torch.testing.assert_close(blend(x0, x_t, 0.0), x0)
    torch.testing.assert_close(blend(x0, x_t, 1.0), x_t)
    torch.testing.assert_close(blend(x0, x_t, 0.75), (x0 + x_t) / 2)


def test_no_gradient_no_guidance_and_uphill_with_one() -> None:
    eps, uphill = drawn(1, 2, 4, 4), drawn(1, 2, 4, 4, seed=1)
    assert torch.equal(guided(eps, torch.zeros_like(eps), 0.3), eps)
    x_t, alpha_bar = drawn(1, 2, 4, 4, seed=2), 0.3
    moved = clean_of(guided(eps, uphill, alpha_bar), x_t, alpha_bar) - clean_of(eps, x_t, alpha_bar)
    torch.testing.assert_close(moved, (1 - alpha_bar) / math.sqrt(alpha_bar) * uphill)


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (64, 64)])
def test_the_blur_is_a_mirrored_gaussian(size: tuple[int, int]) -> None:
    pictures = drawn(2, 3, *size)
    kernel = torch.exp(-0.5 * (torch.arange(9, dtype=torch.float64) - 4) ** 2)
    kernel_11KK = torch.outer(kernel, kernel)[None, None] / kernel.sum() ** 2
    mirrored = functional.pad(pictures, (4, 4, 4, 4), mode="reflect").flatten(0, 1)[:, None]
    want = functional.conv2d(mirrored, kernel_11KK).reshape(pictures.shape)
    torch.testing.assert_close(blur(pictures), want, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4), (8, 8)])
def test_the_blur_leaves_flat_pictures_flat_at_any_size(size: tuple[int, int]) -> None:
    torch.testing.assert_close(blur(torch.full((1, 2, *size), 3.0)), torch.full((1, 2, *size), 3.0))


def test_attended_is_what_gets_more_than_its_share() -> None:
    received = torch.tensor([[0.5, 1.5, 1.0, 1.0], [2.0, 0.2, 0.8, 1.0]])
    mask = attended(received, (4, 4))
    assert mask.shape == (2, 1, 4, 4)
    assert mask[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert mask[1, 0, :2, :2].min() == 1
    assert mask[1].sum() == 4
    assert attended(received, (5, 7)).shape == (2, 1, 5, 7), "also where sides do not divide"
    wide = attended(torch.tensor([[2.0, 0, 0, 0, 0, 0, 0, 2]]), (4, 8))
    assert wide[0, 0].tolist() == [[1.0] * 2 + [0.0] * 6] * 2 + [[0.0] * 6 + [1.0] * 2] * 2, "nor where they are not equal"


def test_degraded_is_the_state_but_for_what_is_attended() -> None:
    x0, eps, alpha_bar = drawn(1, 2, 8, 8), drawn(1, 2, 8, 8, seed=1), 0.4
    x_t = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps
    received = torch.ones(1, 16, dtype=torch.float64)
    torch.testing.assert_close(degraded(x0, eps, received, alpha_bar), x_t)
    received[0, 0] = 1.2
    changed = (degraded(x0, eps, received, alpha_bar) - x_t).abs().amax((0, 1))
    assert changed[:2, :2].min() > 0
    assert changed[2:].max() < 1e-12
    assert changed[:, 2:].max() < 1e-12
