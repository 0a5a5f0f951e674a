"""The beam rule on a language model one can compute by hand: a table of next-token probabilities."""

from __future__ import annotations

import itertools
import math

import pytest

from scuba_ray.core.beam import beam_search
from tests.core.table_model import Table, start

STOP = 3


CHAIN = [
    [0.05, 0.50, 0.15, 0.30],
    [0.10, 0.20, 0.30, 0.40],
    [0.25, 0.05, 0.10, 0.60],
    [0.97, 0.01, 0.01, 0.01],
]


def mean_logprob(first: int, sentence: tuple[int, ...]) -> float:
    path = (first, *sentence)
    return sum(math.log(CHAIN[a][b]) for a, b in itertools.pairwise(path)) / len(sentence)


def test_a_wide_enough_search_finds_the_best_mean_logprob_of_all_sentences() -> None:
    sentences = [
        words
        for length in (1, 2)
        for words in itertools.product(range(4), repeat=length)
        if STOP not in words[:-1] and (words[-1] == STOP or length == 2)
    ]
    ranked = sorted(sentences, key=lambda words: -mean_logprob(0, words))
    beams = beam_search(Table(CHAIN), start(0), stop=STOP, beams=4, max_tokens=2)
    best = beams.token_VML[0, 0, : beams.length_VM[0, 0]].tolist()
    assert tuple(best) == ranked[0]
    assert beams.logprob_VM[0, 0].item() == pytest.approx(mean_logprob(0, ranked[0]))


def test_beams_are_ranked_and_scored_by_mean_logprob_with_frozen_lengths() -> None:
    beams = beam_search(Table(CHAIN), start(0, 1, 2), stop=STOP, beams=3, max_tokens=6)
    for voxel in range(3):
        assert beams.logprob_VM[voxel].tolist() == sorted(beams.logprob_VM[voxel].tolist(), reverse=True)
        for beam in range(3):
            length = int(beams.length_VM[voxel, beam])
            words = beams.token_VML[voxel, beam].tolist()
            assert words[length:] == [0] * (6 - length)
            assert STOP not in words[: length - 1]
            assert beams.logprob_VM[voxel, beam].item() == pytest.approx(mean_logprob(voxel, tuple(words[:length])))


def test_finished_voxels_and_stopped_beams_cost_nothing() -> None:
    certain = [[1e-9, 1e-9, 1e-9, 1.0], [1e-9, 1e-9, 1.0, 1e-9], [1e-9, 1.0, 1e-9, 1e-9], [1.0, 1e-9, 1e-9, 1e-9]]
    table = Table(certain)
    beams = beam_search(table, start(0, 1), stop=STOP, beams=1, max_tokens=5)
    assert beams.token_VML[:, 0].tolist() == [[STOP, 0, 0, 0, 0], [2, 1, 2, 1, 2]]
    assert table.rows == [1, 1, 1, 1], "voxel 0 stopped at once and never enters the model again"


def test_temperature_divides_logits() -> None:
    hot = beam_search(Table(CHAIN), start(0), stop=STOP, beams=1, max_tokens=1, temperature=1e6)
    assert hot.logprob_VM.item() == pytest.approx(math.log(0.25), abs=1e-4)


def test_no_prefixes_give_no_beams() -> None:
    beams = beam_search(Table(CHAIN), start()[:0].reshape(0, 1, 1), stop=STOP, beams=3, max_tokens=4)
    assert beams.token_VML.shape == (0, 3, 4)
    assert beams.logprob_VM.shape == (0, 3)
