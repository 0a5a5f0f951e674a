"""Nucleus sampling on a language model one can compute by hand: what is drawn, how often, each voxel for itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from scuba_ray.core import sampling
from scuba_ray.core.beam import beam_search
from scuba_ray.core.decoding import Sentences
from scuba_ray.core.sampling import nucleus_sample, uniforms
from tests.core.table_model import Table, start

STOP = 3
CHAIN = [
    [0.05, 0.50, 0.15, 0.30],
    [0.10, 0.20, 0.30, 0.40],
    [0.25, 0.05, 0.10, 0.60],
    [0.97, 0.01, 0.01, 0.01],
]


def sentences(found: Sentences, voxel: int) -> list[tuple[int, ...]]:
    pairs = zip(found.token_VML[voxel].tolist(), found.length_VM[voxel].tolist(), strict=True)
    return [tuple(tokens[:length]) for tokens, length in pairs]


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, [1]), (0.79, [1, 3]), (0.81, [1, 2, 3]), (1.0, [0, 1, 2, 3])])
def test_tokens_are_drawn_from_the_nucleus_in_proportion(top_p: float, kept: list[int]) -> None:
    found = nucleus_sample(Table(CHAIN), start(0), ["voxel"], stop=STOP, samples=4000, top_p=top_p, max_tokens=1)
    share = torch.bincount(found.token_VML[0, :, 0], minlength=4) / 4000
    expected = torch.tensor([CHAIN[0][token] if token in kept else 0.0 for token in range(4)])
    assert (share - expected / expected.sum()).abs().max() < 0.025
    assert set(found.token_VML[0, :, 0].tolist()) == set(kept)


def test_a_vocabulary_larger_than_the_head_is_drawn_from_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = {"stop": STOP, "samples": 200, "top_p": 0.9, "max_tokens": 4}
    whole = nucleus_sample(Table(CHAIN), start(0, 1, 2, 3), list("abcd"), **draw)
    monkeypatch.setattr(sampling, "HEAD", 2)  # row 3 needs one token, the others more than two
    cut = nucleus_sample(Table(CHAIN), start(0, 1, 2, 3), list("abcd"), **draw)
    assert [sentences(cut, voxel) for voxel in range(4)] == [sentences(whole, voxel) for voxel in range(4)]


def test_samples_are_ranked_by_their_mean_logprob_in_the_whole_distribution() -> None:
    found = nucleus_sample(Table(CHAIN), start(0, 2), ["a", "b"], stop=STOP, samples=30, top_p=0.6, max_tokens=6)
    for voxel, first in enumerate((0, 2)):
        scores = found.logprob_VM[voxel].tolist()
        assert scores == sorted(scores, reverse=True)
        for words, score in zip(sentences(found, voxel), scores, strict=True):
            assert STOP not in words[:-1] and (words[-1] == STOP or len(words) == 6)
            path = (first, *words)
            expected = sum(math.log(CHAIN[a][b]) for a, b in itertools.pairwise(path)) / len(words)
            assert score == pytest.approx(expected)
    assert (found.token_VML.masked_select(torch.arange(6) >= found.length_VM[:, :, None]) == 0).all()


def test_a_voxel_draws_the_same_alone_among_others_and_in_another_order() -> None:
    keys, begins = [f"s1/{voxel}" for voxel in range(12)], [voxel % 3 for voxel in range(12)]
    draw = {"stop": STOP, "samples": 6, "max_tokens": 8}
    together = nucleus_sample(Table(CHAIN), start(*begins), keys, **draw)
    order = [7, 2, 11, 0]
    some = nucleus_sample(Table(CHAIN), start(*[begins[voxel] for voxel in order]), [keys[voxel] for voxel in order], **draw)
    for place, voxel in enumerate(order):
        alone = nucleus_sample(Table(CHAIN), start(begins[voxel]), [keys[voxel]], **draw)
        assert sentences(alone, 0) == sentences(some, place) == sentences(together, voxel)
        assert alone.logprob_VM[0].tolist() == pytest.approx(together.logprob_VM[voxel].tolist())
    assert len({tuple(sentences(together, voxel)) for voxel in (0, 3, 6, 9)}) == 4, "equal voxels of other names draw otherwise"
    other = nucleus_sample(Table(CHAIN), start(*begins), keys, seed=1, **draw)
    assert [sentences(other, voxel) for voxel in range(12)] != [sentences(together, voxel) for voxel in range(12)]


def test_more_samples_and_longer_sentences_do_not_change_the_draws() -> None:
    few = nucleus_sample(Table(CHAIN), start(0), ["v"], stop=STOP, samples=3, max_tokens=4)
    many = nucleus_sample(Table(CHAIN), start(0), ["v"], stop=STOP, samples=9, max_tokens=30)
    assert {words[:4] for words in sentences(few, 0)} <= {words[:4] for words in sentences(many, 0)}


def test_a_small_nucleus_is_greedy_decoding() -> None:
    greedy = beam_search(Table(CHAIN), start(0, 1, 2), stop=STOP, beams=1, max_tokens=6)
    drawn = nucleus_sample(Table(CHAIN), start(0, 1, 2), list("abc"), stop=STOP, samples=2, top_p=1e-9, max_tokens=6)
    for voxel in range(3):
        assert sentences(drawn, voxel) == sentences(greedy, voxel) * 2
    assert torch.allclose(drawn.logprob_VM, greedy.logprob_VM.expand(-1, 2))


def test_finished_sentences_are_not_computed_and_finished_voxels_leave() -> None:
    certain = [[1e-12, 1e-12, 1e-12, 1.0], [1e-12, 1e-12, 1.0, 1e-12], [1e-12, 1.0, 1e-12, 1e-12], [1.0, 1e-12, 1e-12, 1e-12]]
    table = Table(certain)
    found = nucleus_sample(table, start(0, 1), ["a", "b"], stop=STOP, samples=2, max_tokens=4)
    assert found.token_VML[:, 0].tolist() == [[STOP, 0, 0, 0], [2, 1, 2, 1]]
    assert table.rows == [2, 2, 2] and table.voxels == [1, 1, 1]


def test_temperature_flattens_before_the_nucleus_is_cut() -> None:
    hot = nucleus_sample(Table(CHAIN), start(3), ["v"], stop=STOP, samples=400, top_p=0.9, temperature=1e6, max_tokens=1)
    assert len(set(hot.token_VML[0, :, 0].tolist())) == 4
    assert hot.logprob_VM[0].tolist() == pytest.approx([math.log(0.25)] * 400, abs=1e-4)


def test_no_prefixes_give_no_sentences() -> None:
    found = nucleus_sample(Table(CHAIN), start()[:0].reshape(0, 1, 1), [], stop=STOP, samples=3, max_tokens=4)
    assert found.token_VML.shape == (0, 3, 4)


def test_the_uniforms_are_uniform_and_unlike_each_other() -> None:
    number_VML = uniforms([f"s/{voxel}" for voxel in range(50)], 20, 30, seed=0)
    assert number_VML.min() >= 0 and number_VML.max() < 1
    assert np.abs(np.histogram(number_VML, 10, (0, 1))[0] / number_VML.size - 0.1).max() < 0.008
    assert len(np.unique(number_VML)) == number_VML.size
    for axis in range(3):  # neighbours of every kind are uncorrelated
        a, b = (np.take(number_VML, range(step, number_VML.shape[axis] - 1 + step), axis).ravel() for step in (0, 1))
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
