"""What a picture is like before anything in it is recognised: the features of the low-level baseline.

    size        share of pixels that differ from a smooth background
    luminance   mean of Rec. 709 luma of the sRGB values, 0 to 1
    contrast    its standard deviation over pixels (RMS contrast)
    energy      log10 of its spectral power in octave bands of spatial frequency x orientations

A voxel that these explain needs no content to be explained. They are a control for confounds, not a model of early vision.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

SIDE = 64
"""Width and height, in pixels, that pictures are brought to: frequencies reach 32 cycles per picture."""
BANDS = ((2, 4), (4, 8), (8, 16), (16, 32))
"""Spatial frequencies, in cycles per picture, from and up to."""
ORIENTATIONS = 4
"""Sectors of 180 / 4 degrees, centred on 0, 45, 90 and 135 degrees of the wave vector: 0 has upright stripes."""
NAMES = (
    "size",
    "luminance",
    "contrast",
    *(f"energy {low}-{high} cycles, {180 * k // ORIENTATIONS} deg" for low, high in BANDS for k in range(ORIENTATIONS)),
)
"""The features, in order: D = 19."""
DIFFERS = 0.08
"""A pixel is not background when a channel (0 to 1) differs by more than this."""
_RIM = 2
_ROUNDS = 5
_RIDGE = 1e-2
_FLOOR = 1e-7
"""Added to spectral power (its sum is the variance of luminance, under the window), so that a plain picture has a logarithm."""
_LUMA = (0.2126, 0.7152, 0.0722)


def low_level_features(pixels_B3HW: Tensor) -> Tensor:
    """Low-level features of pictures, in the order of `NAMES`.

    Parameters
    ----------
    pixels_B3HW : Tensor of shape (B, 3, SIDE, SIDE)
        sRGB values, 0 to 1.

    Returns
    -------
    Tensor of shape (B, 19), float32
    """
    pixels_B3HW = pixels_B3HW.float()
    luma_BHW = torch.einsum("bchw,c->bhw", pixels_B3HW, pixels_B3HW.new_tensor(_LUMA))
    deviation_B = luma_BHW.std((1, 2), correction=0)
    first_B3 = torch.stack([covered(pixels_B3HW), luma_BHW.mean((1, 2)), deviation_B], dim=1)
    return torch.cat([first_B3, _energies(luma_BHW)], dim=1)


def covered(pixels_B3HW: Tensor) -> Tensor:
    """Share of each picture that differs from a smooth background, (B,) float32; judged at half of the picture's resolution.

    The background is, per channel, a polynomial of degree 3 in x times degree 3 in y: fitted to the picture's rim (4 pixels),
    then a few times to whatever the fit before it leaves within a tolerance, which narrows to `DIFFERS`. A photograph without
    such a background counts what departs from the smooth continuation of its rim.
    """
    halved_B3HW = torch.nn.functional.avg_pool2d(pixels_B3HW, 2)
    basis_NT, pairs_NU, rim_N = _background(halved_B3HW.shape[-1], pixels_B3HW.device)
    terms = basis_NT.shape[1]
    pixels_BNC = halved_B3HW.flatten(2).transpose(1, 2)
    own_BN = rim_N.expand(len(pixels_BNC), -1)
    for left in reversed(range(_ROUNDS)):
        # a little ridge: where few pixels are background, it stays near what they say
        penalty_B = _RIDGE * own_BN.sum(1).clamp(min=1)
        gram_BTT = (own_BN @ pairs_NU).view(-1, terms, terms) + penalty_B[:, None, None] * torch.eye(
            terms, device=basis_NT.device
        )
        cross_BTC = basis_NT.T @ (own_BN[..., None] * pixels_BNC)
        fitted_BNC = basis_NT @ torch.linalg.solve(gram_BTT, cross_BTC)
        own_BN = ((pixels_BNC - fitted_BNC).abs().amax(2) <= DIFFERS * (1 + left / 2)).float()
    return 1 - own_BN.mean(1)


@lru_cache(maxsize=4)
def _background(side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Products of Legendre polynomials at every pixel (N, T), those of each two of them (N, T * T), and 1 on the rim (N,)."""
    x_H = (torch.arange(side, device=device) + 0.5) * 2 / side - 1
    one_HP = torch.stack([torch.ones_like(x_H), x_H, (3 * x_H**2 - 1) / 2, (5 * x_H**3 - 3 * x_H) / 2], dim=1)
    basis_NT = torch.einsum("hp,wq->hwpq", one_HP, one_HP).flatten(2).flatten(0, 1)
    inside_H = (torch.arange(side, device=device) - (side - 1) / 2).abs() < side / 2 - _RIM
    rim_N = (~(inside_H[:, None] & inside_H[None, :])).float().flatten()
    return basis_NT, (basis_NT[:, :, None] * basis_NT[:, None, :]).flatten(1), rim_N


def _energies(luma_BHW: Tensor) -> Tensor:
    """log10 of spectral power per band and orientation, (B, bands * orientations); a Hann window hides the picture's edges."""
    window_HW, member_FHW = _sectors(luma_BHW.shape[-1], luma_BHW.device)
    centred_BHW = luma_BHW - (luma_BHW * window_HW).sum((1, 2), keepdim=True) / window_HW.sum()
    spectrum_BHW = torch.fft.fft2(centred_BHW * window_HW)
    power_BHW = spectrum_BHW.abs() ** 2 / (window_HW**2).sum() / window_HW.numel()
    return (torch.einsum("bhw,fhw->bf", power_BHW, member_FHW) + _FLOOR).log10()


@lru_cache(maxsize=4)
def _sectors(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The window (H, W) and, for each band and orientation, which frequencies belong to it, (F, H, W) of 0 and 1."""
    hann_H = torch.hann_window(side, periodic=True, device=device)
    f_H = torch.fft.fftfreq(side, 1 / side, device=device)
    radius_HW = torch.hypot(f_H[:, None], f_H[None, :])
    angle_HW = torch.atan2(f_H[:, None], f_H[None, :]) % math.pi
    sector_HW = (angle_HW * ORIENTATIONS / math.pi).round().long() % ORIENTATIONS
    members = [
        (radius_HW >= low) & (radius_HW < high) & (sector_HW == orientation)
        for low, high in BANDS
        for orientation in range(ORIENTATIONS)
    ]
    return hann_H[:, None] * hann_H[None, :], torch.stack(members).float()
