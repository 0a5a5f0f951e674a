"""Keywords of a voxel, after LaVCa: which candidates its descriptions offer, and which of them its weights want.

LaVCa's own code is not published. This is its rule as described (METHOD, section 6), with every constant stated:

    score_k = tf_k * idf_k,   tf_k = share of the voxel's descriptions with noun k,   idf_k = ln((1 + M) / (1 + m_k)) + 1
    q_k     = softmax_k(beta cos(text(k), w))

with m_k the number of all M descriptions that have the noun (smoothed as scikit-learn does it).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from scuba_ray.core.vectors import cosine


def document_counts(documents: Iterable[Iterable[str]]) -> Counter[str]:
    """In how many documents each word occurs."""
    return Counter(word for document in documents for word in set(document))


def rank_by_tf_idf(documents: Sequence[Iterable[str]], counts: Mapping[str, int], total: int, keep: int) -> list[str]:
    """The words of some documents that are frequent here and rare elsewhere.

    Parameters
    ----------
    documents : sequence of iterables of str
        Words of each of the voxel's descriptions.
    counts : mapping
        In how many of all `total` descriptions (the voxel's among them) each word occurs.
    keep : int
        Words returned at most, best first; ties in alphabetical order.
    """
    scores = {
        word: count / len(documents) * (math.log((1 + total) / (1 + counts[word])) + 1)
        for word, count in document_counts(documents).items()
    }
    return sorted(scores, key=lambda word: (-scores[word], word))[:keep]


def keep_by_drive(text_KD: Tensor, weight_D: Tensor, *, beta: float, threshold: float, keep: int) -> list[int]:
    """Which of K candidates a voxel's weights want: indices, best first.

    Parameters
    ----------
    text_KD : Tensor of shape (K, D)
        Text embeddings of the candidates, any length; K of at least 1.
    weight_D : Tensor of shape (D,)
        The voxel's weights.
    beta : float
        Inverse temperature of the softmax over the candidates.
    threshold : float
        Share of the softmax below which a candidate is dropped. The best one is always kept.
    keep : int
        Candidates kept at most.
    """
    share_K = torch.softmax(beta * cosine(text_KD.double(), weight_D.double()).nan_to_num(-1.0), 0)
    order = torch.argsort(share_K, descending=True, stable=True).tolist()
    return [index for place, index in enumerate(order[:keep]) if place == 0 or share_K[index] >= threshold]


def sentence_of(keywords: Sequence[str]) -> str:
    """`A photo of X, Y and Z.`, in the order given."""
    *first, last = keywords
    return f"A photo of {', '.join(first)} and {last}." if first else f"A photo of {last}."
