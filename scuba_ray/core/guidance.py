"""Guided denoising: what a diffusion step's prediction becomes under a gradient and under self-attention guidance.

Everything is written for a state of unit variance, x_t = sqrt(a) x0 + sqrt(1 - a) eps, where a is the schedule's cumulative
alpha at t. Legend: B pictures, C channels, H and W sides, N tokens of the network's middle.

Sources: METHOD.md, section 5, for the blend and the guided noise (Luo et al. 2023, "Brain Diffusion for Visual Exploration",
arXiv 2306.03089); Hong et al. 2023, "Improving Sample Quality of Diffusion Models Using Self-Attention Guidance" (arXiv
2210.00939), held against diffusers' pipeline of it by a test; Salimans & Ho 2022, "Progressive Distillation for Fast Sampling
of Diffusion Models" (arXiv 2202.00512), for v.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network says of its noisy input: the noise, v = sqrt(a) eps - sqrt(1 - a) x0, or the picture."""

KERNEL = 9
"""Pixels of the blur, as in diffusers' pipeline."""
SIGMA = 1.0
ATTENDED = 1.0
"""Attention that a token gets from all together when every token gets the same."""


def noise_of(said: torch.Tensor, x_t: torch.Tensor, alpha_bar: float, prediction: Prediction) -> torch.Tensor:
    """Return the noise eps that a network's output stands for.

    Parameters
    ----------
    said, x_t : Tensor of shape (B, C, H, W)
        The network's output and its noisy input.
    alpha_bar
        Cumulative alpha of the step, in (0, 1).
    prediction
        What the output is.
    """
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    if prediction == "epsilon":
        return said
    if prediction == "v_prediction":
        return signal * said + noise * x_t
    return (x_t - signal * said) / noise


def clean_of(eps: torch.Tensor, x_t: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return the predicted picture x0 = (x_t - sqrt(1 - a) eps) / sqrt(a), (B, C, H, W)."""
    return (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)


def said_of(eps: torch.Tensor, x_t: torch.Tensor, alpha_bar: float, prediction: Prediction) -> torch.Tensor:
    """Return what a network of kind `prediction` says when it means the noise eps: the inverse of `noise_of`, (B, C, H, W)."""
    if prediction == "epsilon":
        return eps
    if prediction == "v_prediction":
        return (eps - math.sqrt(1 - alpha_bar) * x_t) / math.sqrt(alpha_bar)
    return clean_of(eps, x_t, alpha_bar)


def blend(clean: torch.Tensor, x_t: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return what the encoder is shown, x' = sqrt(1 - a) x0 + (1 - sqrt(1 - a)) x_t, (B, C, H, W) (Luo et al.).

    Under much noise that is the predicted picture, towards the end the state itself.
    """
    share = math.sqrt(1 - alpha_bar)
    return share * clean + (1 - share) * x_t


def guided(eps: torch.Tensor, gradient: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return eps - sqrt(1 - a) * gradient, the noise that leads uphill, (B, C, H, W) (Luo et al.).

    `gradient` is that of the objective, times its strength g, by the state x_t.
    """
    return eps - math.sqrt(1 - alpha_bar) * gradient


def degraded(clean: torch.Tensor, eps: torch.Tensor, received_BN: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return the state again, with the predicted picture blurred where the network attends (Hong et al.).

    Parameters
    ----------
    clean, eps : Tensor of shape (B, C, H, W)
        Predicted picture and noise.
    received_BN : Tensor of shape (B, N)
        Attention that each token of the middle receives from all tokens, mean over heads. Blurred is where it is above 1.
    alpha_bar
        Cumulative alpha of the step.

    Returns
    -------
    x_t : Tensor of shape (B, C, H, W)
        sqrt(a) x0_blurred + sqrt(1 - a) eps: the same noise as before.
    """
    mask_B1HW = attended(received_BN, clean.shape[-2:])
    blurred = mask_B1HW * blur(clean) + (1 - mask_B1HW) * clean
    return math.sqrt(alpha_bar) * blurred + math.sqrt(1 - alpha_bar) * eps


def attended(received_BN: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Return where tokens receive more attention than their share, 1 or 0, (B, 1, H, W), nearest neighbours of `size`.

    The network halves the sides of `size`, rounding up, until its N tokens are left.
    """
    height, width = size
    while height * width > received_BN.shape[1]:
        height, width = -(-height // 2), -(-width // 2)
    above_B1hw = (received_BN > ATTENDED).to(received_BN.dtype).reshape(-1, 1, height, width)
    return torch.nn.functional.interpolate(above_B1hw, size=tuple(size), mode="nearest")


def blur(pictures: torch.Tensor) -> torch.Tensor:
    """Return pictures (B, C, H, W) under a Gaussian of `KERNEL` pixels and deviation `SIGMA`, mirrored at the borders.

    Any size: where a side is shorter than the kernel reaches, the mirror is mirrored again.
    """
    for dim in (-2, -1):
        side = pictures.shape[dim]
        pictures = torch.movedim(torch.movedim(pictures, dim, -1) @ _blurring(side).to(pictures), -1, dim)
    return pictures


def _blurring(side: int) -> torch.Tensor:
    """The blur of one direction as a matrix: column j holds what pixel j takes from every pixel."""
    reach = torch.arange(KERNEL) - KERNEL // 2
    weight_K = torch.exp(-0.5 * (reach / SIGMA) ** 2)
    period = max(2 * (side - 1), 1)
    source_jK = (torch.arange(side)[:, None] + reach) % period
    source_jK = torch.minimum(source_jK, period - source_jK) if side > 1 else torch.zeros_like(source_jK)
    matrix = torch.zeros(side, side)
    matrix.T.scatter_add_(1, source_jK, (weight_K / weight_K.sum()).expand(side, -1))
    return matrix
