"""Lengths and directions of embeddings, with the cases that have no direction defined once for everybody."""

from __future__ import annotations

import torch
from torch import Tensor

from scuba_ray.core.products import multiply


def unit_and_norm(rows_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Split rows into direction and length.

    Parameters
    ----------
    rows_KD : Tensor of shape (K, D)
        Raw embeddings or weights, any float type.

    Returns
    -------
    unit_KD : Tensor of shape (K, D), float32
        Rows of length one. A row of zeros stays zero: it has no direction.
    norm_K : Tensor of shape (K,), float32
        L2 norms.
    """
    rows_KD = rows_KD.float()
    norm_K = torch.linalg.vector_norm(rows_KD, dim=1)
    return rows_KD / torch.where(norm_K > 0, norm_K, 1.0)[:, None], norm_K


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine along the last axis; NaN where either vector is zero or not finite.

    Parameters
    ----------
    a, b : Tensor of shape (..., D)
        Broadcast against each other.

    Returns
    -------
    Tensor of shape (...), in [-1, 1] or NaN
    """
    lengths = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    defined = (lengths > 0) & torch.isfinite(lengths)
    value = ((a * b).sum(-1) / torch.where(defined, lengths, 1.0)).clamp(-1, 1)
    return torch.where(defined, value, torch.nan)


def cosines_into(directions_VD: Tensor, unit_ND: Tensor, out_VN: Tensor, align: int) -> None:
    """Write the cosines of unit vectors (as `products.factor` makes them) into `out_VN`.

    N is padded to a multiple of `align`; surplus columns become -inf.
    """
    images, padded = len(unit_ND), out_VN.shape[1]
    whole = images - images % align
    multiply(directions_VD, unit_ND[:whole].T, out=out_VN[:, :whole])
    if whole < padded:
        rest_ND = unit_ND.new_zeros(align, unit_ND.shape[1])
        rest_ND[: images - whole] = unit_ND[whole:]
        multiply(directions_VD, rest_ND.T, out=out_VN[:, whole:])
        out_VN[:, images:] = -torch.inf
