"""One fixed binary tree over numbered pieces, so that a sum of floats does not depend on who took which piece, or who was first.

A node (level, index) covers the pieces [index << level, (index + 1) << level). Siblings merge, left then right, as soon as both
are there; what is left of a number of pieces that is no power of two is folded from the right. Whoever has a run of pieces can
merge as far up as its run reaches, and hand on the few nodes that are left (`decompose`): the merges done are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Generic, TypeVar

Value = TypeVar("Value")
Node = tuple[int, int]
"""(level, index)."""


class Forest(Generic[Value]):
    """Nodes that are known and not merged yet: at most one a level, if pieces come in order."""

    def __init__(self, merge: Callable[[Value, Value], Value]) -> None:
        """Start empty; `merge(left, right)` makes a parent's value of its children's."""
        self.nodes: dict[Node, Value] = {}
        self._merge = merge

    def add(self, node: Node, value: Value) -> None:
        """Take in a node's value, once, in any order, and merge upwards as far as siblings are there."""
        while (sibling := (node[0], node[1] ^ 1)) in self.nodes:
            other = self.nodes.pop(sibling)
            left, right = (other, value) if sibling < node else (value, other)
            node, value = (node[0] + 1, node[1] >> 1), self._merge(left, right)
        self.nodes[node] = value

    def fold(self) -> Value:
        """The value of all pieces [0, n), every one of which has been taken in: what is left merged from the right."""
        values = [self.nodes[node] for node in sorted(self.nodes, key=lambda node: node[1] << node[0])]
        whole = values.pop()
        while values:
            whole = self._merge(values.pop(), whole)
        return whole


def decompose(first: int, stop: int) -> list[Node]:
    """The nodes, from left to right, that a `Forest` keeps of the pieces [first, stop)."""
    nodes: list[Node] = []
    while first < stop:
        aligned = first & -first or 1 << stop.bit_length()
        size = min(aligned, 1 << ((stop - first).bit_length() - 1))
        nodes.append((size.bit_length() - 1, first // size))
        first += size
    return nodes


def runs(pieces: int, holders: int) -> list[tuple[int, int]]:
    """Cut `pieces` into a run [first, stop) for each of the holders (no more than pieces), of nearly one length.

    Ends lie on multiples of a power of two of at most a sixteenth of a run, so that a run has few nodes and no holder has more
    than an eighth above its share.
    """
    grain = 1 << max((pieces // (16 * holders)).bit_length() - 1, 0)
    ends = [round(pieces * holder / holders / grain) * grain for holder in range(holders)] + [pieces]
    return list(pairwise(ends))
