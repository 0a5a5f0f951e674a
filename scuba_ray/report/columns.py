"""How wide the columns of a table in the terminal are: lines are broken between words, never in one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len

GAP = 2
"""Blanks between columns."""
_LONGEST = 24
"""A longer word of a running text (an address, markup) may be broken."""


@dataclass(frozen=True)
class Column:
    """A heading and its cells as text."""

    heading: str
    cells: Sequence[str]
    running: bool = False
    """Whether it holds sentences."""

    @cached_property
    def whole(self) -> int:
        """Width at which no line is broken."""
        return max(max(map(cell_len, text.split("\n")), default=0) for text in (self.heading, *self.cells))

    @cached_property
    def least(self) -> int:
        """Width below which a word would be broken."""
        longest = max(cell_len(line) for text in (self.heading, *self.cells) for line in wrapped(text, 1))
        return min(longest, _LONGEST) if self.running else longest


def wrapped(text: str, width: int) -> list[str]:
    """Lines of `width` characters at most, broken between words and after hyphens of words; a longer word stays whole."""
    lines = textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=True)
    return lines or [""]


def least_width(columns: Sequence[Column]) -> int:
    """Width of a table of these columns, each as narrow as it may be."""
    return sum(column.least for column in columns) + GAP * (len(columns) - 1)


def fitted(columns: Sequence[Column], width: int) -> list[int]:
    """Width of each column in a table of `width`: whole if that fits, else what is left is shared by what each still wants.

    In a table that cannot fit, running text alone gives way.
    """
    widths, left = [column.least for column in columns], width - least_width(columns)
    sentences = sum(column.whole - column.least for column in columns if column.running)
    for running in (False, True):
        wants = [column.whole - column.least if column.running is running else 0 for column in columns]
        there = left if running else max(left // 2, left - sentences)  # sentences beside names keep half of what is left
        share = min(max(there, 0) / max(sum(wants), 1), 1)
        given = [int(want * share) for want in wants]
        widths = [wide + more for wide, more in zip(widths, given, strict=True)]
        left -= sum(given)
    texts = [place for place, column in enumerate(columns) if column.running]
    for place in texts:
        widths[place] = max(widths[place] + min(left, 0) // len(texts), 1)
    return widths
