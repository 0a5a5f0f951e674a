"""What a judge says of pictures: a category without training (zero-shot), and a place among natural images.

METHOD section 5: an embedding belongs to the category whose prompts it is most similar to. The maximum over a category's prompts
favours long lists (twelve tries against one), their mean does not, so both are given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scuba_ray.core.scoring import percentile_among


def zero_shot(image_ND: Tensor, prompt_PD: Tensor, category_P: Tensor) -> tuple[Tensor, Tensor]:
    """Categories of images by their similarity to prompts.

    Parameters
    ----------
    image_ND : Tensor of shape (N, D), float32
        Unit rows.
    prompt_PD : Tensor of shape (P, D), float32
        Unit rows, in the same space.
    category_P : Tensor of shape (P,), int64
        Which category each prompt belongs to, 0 to C - 1; each category has a prompt.

    Returns
    -------
    best_N, mean_N : Tensor of shape (N,), int64
        The category of the single most similar prompt, and the category whose prompts are most similar on average. Of equal ones
        the first. Memory: N * (P + C) * 4 bytes.
    """
    cosine_NP = image_ND @ prompt_PD.T
    index_NP = category_P.expand_as(cosine_NP)
    empty_NC = cosine_NP.new_zeros(len(image_ND), int(category_P.max()) + 1)
    best_NC, mean_NC = (empty_NC.scatter_reduce(1, index_NP, cosine_NP, how, include_self=False) for how in ("amax", "mean"))
    return best_NC.argmax(dim=1), mean_NC.argmax(dim=1)


def percentiles(value_N: Tensor, natural_S: Tensor) -> Tensor:
    """Where values lie among those of natural images, (N,) float32, 0 to 100; ties count half.

    Parameters
    ----------
    value_N : Tensor of shape (N,)
    natural_S : Tensor of shape (S,)
        In any order, S > 0.
    """
    return percentile_among(natural_S.sort().values, value_N.contiguous())


def falling_ranks(value_N: Tensor) -> Tensor:
    """Rank of each value, (N,) int64, 0 for the largest; of equal values the first comes first."""
    order_N = value_N.argsort(descending=True, stable=True)
    return torch.empty_like(order_N).scatter_(0, order_N, torch.arange(len(order_N), device=order_N.device))
