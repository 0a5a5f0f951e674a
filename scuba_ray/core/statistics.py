"""How far a voxel's prediction can be trusted: scores on held-out images, noise ceilings, permutation p and false discovery rate.

The published code reports none of these. A value that cannot be computed (constant responses, no repeats, a ceiling below the
floor) is NaN here and null in a table; nothing is ever infinite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scuba_ray.core.vectors import cosine


def _centred(values_SV: Tensor) -> Tensor:
    """Columns minus their means, float64; a constant column is exactly zero whatever rounding says."""
    if len(values_SV) == 0:
        return values_SV.double()
    centred_SV = values_SV.double() - values_SV.double().mean(0)
    return torch.where(values_SV.amax(0) == values_SV.amin(0), 0.0, centred_SV)


def _ratio(numerator_V: Tensor, denominator_V: Tensor) -> Tensor:
    """float32 quotient, NaN where the denominator is not positive."""
    defined_V = denominator_V > 0
    return torch.where(defined_V, numerator_V / torch.where(defined_V, denominator_V, 1.0), torch.nan).float()


def r2(Y_SV: Tensor, P_SV: Tensor) -> Tensor:
    """Coefficient of determination 1 - sum (y - p)^2 / sum (y - mean y)^2.

    Parameters
    ----------
    Y_SV, P_SV : Tensor of shape (S, V)
        Measured and predicted responses to held-out images.

    Returns
    -------
    Tensor of shape (V,), float32
        At most 1, negative where the mean predicts better; NaN for constant responses.
    """
    error_V = ((Y_SV.double() - P_SV.double()) ** 2).sum(0)
    energy_V = (_centred(Y_SV) ** 2).sum(0)
    return _ratio(energy_V - error_V, energy_V)


def pearson(Y_SV: Tensor, P_SV: Tensor) -> Tensor:
    """Correlation over images, (V,) float32; NaN where responses or predictions are constant."""
    return cosine(_centred(Y_SV).T, _centred(P_SV).T).float()


def noise_ceiling_from_ncsnr(ncsnr_V: Tensor, repeats_S: Tensor) -> Tensor:
    """Share of the variance of averaged responses that any model of the image could explain.

        NC = s^2 / (s^2 + mean_i 1 / n_i)

    With A, B, C images of 3, 2, 1 repeats this is the NSD manual's s^2 / (s^2 + (A/3 + B/2 + C) / (A + B + C)).

    Parameters
    ----------
    ncsnr_V : Tensor of shape (V,)
        Noise-ceiling signal-to-noise ratio: standard deviation of the signal over that of single-trial noise. NaN if unknown.
    repeats_S : Tensor of shape (S,), integer
        Repeats averaged for each image that is scored, all >= 1.

    Returns
    -------
    Tensor of shape (V,), float32, in [0, 1] (x 100 for percent)
    """
    _check_repeats(repeats_S)
    signal_V = ncsnr_V.double() ** 2
    return _ratio(signal_V, signal_V + (1 / repeats_S.double()).mean())


def noise_ceiling_from_repeats(Y_TV: Tensor, image_T: Tensor, repeats_S: Tensor | None = None) -> Tensor:
    """Noise ceiling from single trials, for data sets that bring no ncsnr.

    Noise variance is, as in NSD, the variance between repeats of an image, averaged over images: unbiased, and pooled by
    degrees of freedom where repeats differ. Signal variance is what is left of the variance between trials; negative
    estimates become 0.

    Parameters
    ----------
    Y_TV : Tensor of shape (T, V)
        Single-trial responses.
    image_T : Tensor of shape (T,), integer
        Image of each trial, any numbering.
    repeats_S : Tensor of shape (S,), integer, optional
        Repeats averaged for each scored image; those of `image_T` if not given.

    Returns
    -------
    Tensor of shape (V,), float32
        NaN for a voxel without variance, and everywhere if no image was repeated.
    """
    _, image_T, count_I = torch.unique(image_T, return_inverse=True, return_counts=True)
    repeats_S = count_I if repeats_S is None else repeats_S
    _check_repeats(repeats_S)
    trials, images = len(image_T), len(count_I)
    if trials == images:
        return torch.full((Y_TV.shape[1],), torch.nan, device=Y_TV.device)
    Y_TV = _centred(Y_TV)
    sum_IV = Y_TV.new_zeros(images, Y_TV.shape[1]).index_add_(0, image_T, Y_TV)
    total_V = (Y_TV**2).sum(0)
    within_V = (Y_TV - (sum_IV / count_I[:, None])[image_T]).pow_(2).sum(0)
    noise_V = within_V / (trials - images)
    # E[total] = (T - 1) noise + (T - sum n^2 / T) signal; zero degrees of freedom for the signal with a single image
    freedom = trials - float((count_I.double() ** 2).sum()) / trials
    signal_V = ((total_V - (trials - 1) * noise_V) / freedom).clamp(min=0) if images > 1 else torch.zeros_like(noise_V)
    return _ratio(signal_V, signal_V + noise_V * (1 / repeats_S.double()).mean())


def _check_repeats(repeats_S: Tensor) -> None:
    if len(repeats_S) == 0 or int(repeats_S.min()) < 1:
        raise ValueError(f"every scored image needs at least one repeat, got {repeats_S.tolist()[:8]}")


def normalised_r2(r2_V: Tensor, ceiling_V: Tensor, floor: float) -> Tensor:
    """R2 over the noise ceiling; NaN where the ceiling is unknown, zero or below `floor` (a share of variance)."""
    return torch.where(ceiling_V >= floor, _ratio(r2_V, ceiling_V), torch.nan)


def permutation_p(
    Y_SV: Tensor, P_SV: Tensor, *, permutations: int, seed: int, block: int = 1, tile_bytes: int = 8 << 20
) -> Tensor:
    """One-sided p of the correlation, by permuting test responses against fixed predictions.

        p = (1 + #{r_permuted >= r}) / (1 + permutations)

    The permutations are the products s_i t_j^-1 of a few random s and t (with s_0 = t_0 = 1, the observed order, among them).
    As <Y s_i t_j^-1, P> = <Y s_i, P t_j>, all of them come from one matrix product per voxel: 13 x 77 permuted copies instead of
    1,000. Every product is uniformly random and any two are independent, so p varies no more than with separate draws; and the
    table of r is exchangeable in rows and columns, so the observed order is as likely as any to rank first: p is exact.

    Parameters
    ----------
    Y_SV, P_SV : Tensor of shape (S, V)
        Measured and predicted responses to held-out images.
    permutations : int
        At least 1. Best one less than a product of two similar numbers (1,000; 999; 10,000).
    seed : int
        The same permutations for every voxel, also of other blocks of voxels.
    block : int
        Images permuted together, for responses that drift; images left over at the end stay in place.
    tile_bytes : int
        Peak working memory, within a voxel's worth.

    Returns
    -------
    Tensor of shape (V,), float32
        In [1 / (1 + permutations), 1]; NaN for constant responses or predictions, or fewer than two blocks.
    """
    if permutations < 1 or block < 1:
        raise ValueError(f"permutations and block must be >= 1, got {permutations} and {block}")
    images, voxels = Y_SV.shape
    if images // block < 2:
        return torch.full((voxels,), torch.nan, device=Y_SV.device)
    Y_VS, P_VS = (torch.nn.functional.normalize(_centred(values).T, dim=1).float() for values in (Y_SV, P_SV))
    rows = max(n for n in range(1, int((permutations + 1) ** 0.5) + 1) if (permutations + 1) % n == 0)
    columns = (permutations + 1) // rows
    generator = torch.Generator().manual_seed(seed)
    order_RS = _orders(rows, images, block, generator).to(Y_SV.device)
    order_CS = _orders(columns, images, block, generator).to(Y_SV.device)
    tile = max(1, min(voxels, tile_bytes // (4 * (images * (rows + columns) + rows * columns))))
    Y_TN, P_TN = Y_VS.new_empty(tile, rows * images), P_VS.new_empty(tile, columns * images)  # kept: fresh pages cost more
    reached = []
    for start in range(0, voxels, tile):
        stop = min(start + tile, voxels)
        torch.index_select(Y_VS[start:stop], 1, order_RS.flatten(), out=Y_TN[: stop - start])
        torch.index_select(P_VS[start:stop], 1, order_CS.flatten(), out=P_TN[: stop - start])
        Y_TRS, P_TCS = Y_TN[: stop - start].view(-1, rows, images), P_TN[: stop - start].view(-1, columns, images)
        r_TN = torch.bmm(Y_TRS, P_TCS.transpose(1, 2)).flatten(1)
        reached.append((r_TN >= r_TN[:, :1] - 1e-6).sum(1))  # the observed order counts itself; ties by rounding count
    p_V = torch.cat(reached) / (permutations + 1) if reached else Y_VS.new_zeros(0)
    return torch.where((Y_VS != 0).any(1) & (P_VS != 0).any(1), p_V, torch.nan)


def _orders(count: int, images: int, block: int, generator: torch.Generator) -> Tensor:
    """`count` orders of the images (count, S): as they are first, then random orders of blocks."""
    blocks = images // block
    orders = [torch.arange(blocks)] + [torch.randperm(blocks, generator=generator) for _ in range(count - 1)]
    moved = (torch.stack(orders)[..., None] * block + torch.arange(block)).flatten(1)
    return torch.cat([moved, torch.arange(blocks * block, images).expand(count, -1)], dim=1)


def benjamini_hochberg(p_V: Tensor) -> Tensor:
    """False discovery rate q at which each voxel would be accepted (Benjamini & Hochberg 1995), NaN where p is NaN.

    Parameters
    ----------
    p_V : Tensor of shape (V,)
        p of *all* voxels of a subject: NaNs are no tests and do not count.

    Returns
    -------
    Tensor of shape (V,), float32, p <= q <= 1
    """
    tested_V = ~torch.isnan(p_V)
    p_N, order_N = p_V[tested_V].double().sort()
    ranked_N = p_N * len(p_N) / torch.arange(1, len(p_N) + 1, device=p_V.device)
    q_N = ranked_N.flip(0).cummin(0).values.flip(0) if len(p_N) else ranked_N
    q_V = torch.full_like(p_V, torch.nan, dtype=torch.float32)
    q_V[tested_V.nonzero()[:, 0][order_N]] = q_N.float()
    return q_V


def split_half_cosine(first_DV: Tensor, second_DV: Tensor) -> Tensor:
    """Cosine of two fits' weights (D, V), each on half of the images: how far w moves. (V,) float32, NaN for zero weights."""
    return cosine(first_DV.double().T, second_DV.double().T).float()
