"""The published optimiser: a linear head trained by AdamW on image embeddings, and the jitter its images get every epoch.

BrainSCUBA minimises the mean squared error with batches of 32, 100 epochs, weight decay 1.5e-2 and a learning rate of
3e-4 * 0.5^(epoch / 100), encoding every image anew each epoch with a random gain, shift and noise: 909,300 encoder passes a
subject. `ridge` solves the same problem without jitter in closed form; this is the one to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

GAIN = 0.05
"""Half-width of the uniform gain around 1, one per image."""
SHIFT = 4
"""Largest shift in pixels along either axis, one shift per batch."""
NOISE = 0.05
"""Standard deviation of the noise on normalised pixels."""


@dataclass(frozen=True)
class SgdFit:
    """A block of fitted voxels, float32."""

    weights_DV: Tensor
    bias_V: Tensor
    loss_V: Tensor
    """Mean squared error over the last epoch's batches, before each one's step."""


def sgd(
    epoch_features: Callable[[int], Tensor],
    Y_SV: Tensor,
    *,
    seed: int,
    epochs: int = 100,
    batch: int = 32,
    learning_rate: float = 3e-4,
    weight_decay: float = 1.5e-2,
) -> SgdFit:
    """Train the published linear head for a block of voxels.

    Parameters
    ----------
    epoch_features : callable
        Features (S, D) of the training images for an epoch 0, 1, ...: `lambda epoch: X_SD` for cached embeddings; or encode
        the images anew through `jitter`, as published. On the device of `Y_SV`.
    Y_SV : Tensor of shape (S, V)
        Responses. Peak memory is about `4 * V * (S + 5 D)` bytes beside the features.
    seed : int
        Of the order of images: the same for every block of voxels.
    epochs, batch, learning_rate, weight_decay
        Published values are the defaults. The rate halves every 100 epochs; the last batch may be short.

    Returns
    -------
    SgdFit

    Raises
    ------
    ValueError
        If shapes disagree, a response is not finite or a setting is out of range.

    Notes
    -----
    A voxel's fit does not depend on the voxels beside it (up to float32 rounding), which takes two departures from the
    published code. The error is averaged over images but *summed* over voxels: its gradient for one voxel then does not shrink
    with their number. AdamW divides by the gradient's size, so the result is that of the mean but for its epsilon of 1e-8.
    And weights start at zero, not at random values drawn for the block: in directions that the images barely span, a random
    start would stay in w.
    """
    _check(Y_SV, epochs, batch, learning_rate, weight_decay)
    Y_SV = Y_SV.float()
    weights_DV = bias_V = loss_V = Y_SV.new_zeros(0)
    optimiser: torch.optim.AdamW | None = None
    for epoch, drawn_S in enumerate(islice(orders(len(Y_SV), seed), epochs)):
        X_SD = epoch_features(epoch).float()
        if optimiser is None:
            weights_DV, bias_V = Y_SV.new_zeros(X_SD.shape[1], Y_SV.shape[1]), Y_SV.new_zeros(Y_SV.shape[1])
            optimiser = torch.optim.AdamW([weights_DV, bias_V], lr=learning_rate, weight_decay=weight_decay)
        if X_SD.shape != (len(Y_SV), len(weights_DV)):
            raise ValueError(f"features of epoch {epoch} must be {(len(Y_SV), len(weights_DV))}, got {tuple(X_SD.shape)}")
        optimiser.param_groups[0]["lr"] = learning_rate * 0.5 ** (epoch / 100)
        loss_V = torch.zeros_like(bias_V)
        order_S = drawn_S.to(Y_SV.device)
        for start in range(0, len(order_S), batch):
            rows_B = order_S[start : start + batch]
            X_BD = X_SD[rows_B]
            error_BV = torch.addmm(bias_V, X_BD, weights_DV) - Y_SV[rows_B]
            loss_V += (error_BV**2).sum(0)
            weights_DV.grad, bias_V.grad = X_BD.T @ error_BV * (2 / len(rows_B)), error_BV.mean(0) * 2
            optimiser.step()
    return SgdFit(weights_DV=weights_DV, bias_V=bias_V, loss_V=loss_V / len(Y_SV))


def orders(images: int, seed: int) -> Iterator[Tensor]:
    """Yield the order of images (S,) in epoch 0, 1, ... without end: which of them share a step, and with it a jitter's shift."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(images, generator=generator)


def _check(Y_SV: Tensor, epochs: int, batch: int, learning_rate: float, weight_decay: float) -> None:
    if Y_SV.ndim != 2 or len(Y_SV) == 0:
        raise ValueError(f"responses must be (S, V) with at least one image, got {tuple(Y_SV.shape)}")
    if epochs < 1 or batch < 1 or learning_rate <= 0 or weight_decay < 0:
        raise ValueError(
            f"epochs and batch must be >= 1, learning_rate > 0 and weight_decay >= 0, got {epochs}, {batch}, {learning_rate}"
            f" and {weight_decay}"
        )
    bad_V = (~torch.isfinite(Y_SV)).any(0)
    if bool(bad_V.any()):
        raise ValueError(f"responses must be finite; {int(bad_V.sum())} of {len(bad_V)} voxels hold NaN or infinity")


def jitter(pixels_B3HW: Tensor, generator: torch.Generator, *, mean_3: Tensor, std_3: Tensor) -> Tensor:
    """The published image jitter: a gain per image, one shift for the batch with edge padding, noise per pixel.

    Parameters
    ----------
    pixels_B3HW : Tensor of shape (B, 3, H, W), float32
        Pictures as the encoder takes them, normalised: (picture - mean) / std with pictures in [0, 1].
    generator : torch.Generator
        On the CPU: the jitter is the same on every device.
    mean_3, std_3 : Tensor of shape (3,)
        The encoder's normalisation. The gain acts on the picture before it, the noise after it.

    Returns
    -------
    Tensor of shape (B, 3, H, W), float32
    """
    count, _, height, width = pixels_B3HW.shape
    device = pixels_B3HW.device
    gain_B = (1 + GAIN * (2 * torch.rand(count, generator=generator) - 1)).to(device)[:, None, None, None]
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    noise_B3HW = NOISE * torch.randn(pixels_B3HW.shape, generator=generator).to(device)
    black_3 = (mean_3 / std_3).to(device)[:, None, None]
    gained_B3HW = gain_B * (pixels_B3HW + black_3) - black_3
    padded = torch.nn.functional.pad(gained_B3HW, (SHIFT, SHIFT, SHIFT, SHIFT), mode="replicate")
    return padded[:, :, down : down + height, right : right + width] + noise_B3HW
