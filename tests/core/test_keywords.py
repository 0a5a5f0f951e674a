"""Keywords of a voxel: scikit-learn's idf, a softmax by hand, and a sentence one can read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from scuba_ray.core.keywords import document_counts, keep_by_drive, rank_by_tf_idf, sentence_of

ALL = [["dog", "ball"], ["dog"], ["dog", "grass"], ["person"], ["person", "ball"], ["person", "car"], ["person"], ["cat"]]


def test_scores_are_those_of_scikit_learn() -> None:
    vectorizer = TfidfVectorizer(analyzer=lambda words: words, norm=None).fit(ALL)
    idf = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
    mine = ALL[:5]
    tf = {word: count / len(mine) for word, count in document_counts(mine).items()}
    wanted = sorted(tf, key=lambda word: (-tf[word] * idf[word], word))
    assert rank_by_tf_idf(mine, document_counts(ALL), len(ALL), 10) == wanted
    assert wanted[0] == "dog", "frequent here, rarer elsewhere than person"


def test_as_many_as_wanted_ties_by_the_alphabet() -> None:
    documents = [["b", "a"], ["c"]]
    assert rank_by_tf_idf(documents, document_counts(documents), 2, 2) == ["a", "b"]
    assert rank_by_tf_idf([[], []], {}, 2, 5) == []


def test_candidates_are_kept_by_their_share_of_the_softmax() -> None:
    text_KD = torch.tensor([[3.0, 0], [0, 2], [1, 1], [-1, 0]])
    weight_D = torch.tensor([0.1, 0.2])
    cosine_K = np.array([1, 2, 3 / 2**0.5, -1]) / 5**0.5
    share_K = np.exp(10 * cosine_K) / np.exp(10 * cosine_K).sum()
    order = np.argsort(-share_K).tolist()
    for threshold in (0.0, float(share_K[order[1]]) - 1e-6, float(share_K[order[1]]) + 1e-6):
        wanted = [k for k in order if share_K[k] >= threshold][:3]
        assert keep_by_drive(text_KD, weight_D, beta=10, threshold=threshold, keep=3) == wanted
    assert keep_by_drive(text_KD, weight_D, beta=10, threshold=0.999, keep=3) == order[:1], "the best one always is"


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        (["dog"], "A photo of dog."),
        (["dog", "ball"], "A photo of dog and ball."),
        (["dog", "ball", "grass"], "A photo of dog, ball and grass."),
    ],
)
def test_the_template(keywords: list[str], sentence: str) -> None:
    assert sentence_of(keywords) == sentence
