"""How well a captioner says what a caption says, on pairs it has not seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from scuba_ray.models.clipcap import PrefixCaptioner


def score_captions(said: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, float]:
    """Compare sentences with their references (several may be right; the best one counts).

    Returns
    -------
    dict
        `exact`: share that equals a reference, case and punctuation aside. `word F1`: mean of the best unigram F1.
    """
    exact, overlap = 0, 0.0
    for sentence, right in zip(said, references, strict=True):
        words = _words(sentence)
        exact += any(words == _words(reference) for reference in right)
        overlap += max(_f1(words, _words(reference)) for reference in right)
    return {"exact": exact / len(said), "word F1": overlap / len(said)}


def score_captioner(
    directory: Path, embedding_ID: Tensor, references: Sequence[Sequence[str]], device: str
) -> Mapping[str, float]:
    """Caption raw embeddings (I, D) with the captioner in `directory` and compare with each one's references."""
    captioner = PrefixCaptioner(str(directory)).load(device)
    return score_captions([beams[0].text for beams in captioner.captions(embedding_ID)], references)


def _words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def _f1(said: list[str], right: list[str]) -> float:
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right)) if common else 0.0
