"""The tree: whoever merges what, when, the merges done are the same."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scuba_ray.core.tree import Forest, decompose, runs


def join(left: str, right: str) -> str:
    """Shows which merges were done."""
    return f"({left}{right})"


def grown(first: int, stop: int) -> Forest[str]:
    forest = Forest(join)
    for piece in range(first, stop):
        forest.add((0, piece), f"{piece}.")
    return forest


@pytest.mark.parametrize(
    ("pieces", "shape"),
    [(1, "0."), (2, "(0.1.)"), (3, "((0.1.)2.)"), (4, "((0.1.)(2.3.))"), (7, "(((0.1.)(2.3.))((4.5.)6.))")],
)
def test_the_shape_of_the_tree(pieces: int, shape: str) -> None:
    assert grown(0, pieces).fold() == shape


@given(pieces=st.integers(1, 70), cuts=st.sets(st.integers(1, 69), max_size=6), seed=st.integers(0, 10**6))
def test_any_split_into_runs_and_any_order_of_arrival_make_the_same_merges(pieces: int, cuts: set[int], seed: int) -> None:
    ends = [0, *sorted(cut for cut in cuts if cut < pieces), pieces]
    arriving = [item for first, stop in pairwise(ends) for item in grown(first, stop).nodes.items()]
    random.Random(seed).shuffle(arriving)
    whole = Forest(join)
    for node, value in arriving:
        whole.add(node, value)
    assert whole.fold() == grown(0, pieces).fold()


@given(first=st.integers(0, 300), length=st.integers(1, 300))
def test_a_run_leaves_the_nodes_it_decomposes_into(first: int, length: int) -> None:
    nodes = decompose(first, first + length)
    assert list(grown(first, first + length).nodes) and set(grown(first, first + length).nodes) == set(nodes)
    covered = [piece for level, index in nodes for piece in range(index << level, (index + 1) << level)]
    assert covered == list(range(first, first + length)), "from left to right, each piece once"


def test_a_forest_in_order_keeps_a_node_for_each_level_at_most() -> None:
    forest = Forest(join)
    for piece in range(1000):
        forest.add((0, piece), "")
        levels = [level for level, _ in forest.nodes]
        assert len(set(levels)) == len(levels) <= 10


@given(pieces=st.integers(1, 5000), holders=st.integers(1, 40))
def test_runs_are_of_nearly_one_length_and_few_nodes(pieces: int, holders: int) -> None:
    holders = min(holders, pieces)
    cut = runs(pieces, holders)
    assert [first for first, _ in cut] == [0, *(stop for _, stop in cut[:-1])] and cut[-1][1] == pieces
    lengths = [stop - first for first, stop in cut]
    assert min(lengths) > 0 and max(lengths) <= pieces / holders * 1.125 + 1
    assert max(len(decompose(*run)) for run in cut) <= 2 * 8 + 1
