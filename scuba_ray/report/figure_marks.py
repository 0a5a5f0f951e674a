"""What figures of regions and methods share: names that fit, a mark per method, rows from top to bottom, blocks of subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scuba_ray.report.palette import EVERYWHERE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

ROW = 0.27
"""Inches per row."""
LONGEST = 28
"""Letters of a name at most."""
_MARKS = "oDs^vP*X"
_SPREAD = 0.62
"""Of a row's height, what the marks of its methods take."""


def short(name: str, most: int = LONGEST) -> str:
    """A name that fits: its middle is left out, because regions differ at their ends (`lh-FFA-1`, `lh-FFA-2`)."""
    if len(name) <= most:
        return name
    head = (most - 1) * 2 // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def marks_of(methods: Iterable[str]) -> dict[str, str]:
    """A mark for each method, in their order."""
    return {method: _MARKS[place % len(_MARKS)] for place, method in enumerate(dict.fromkeys(methods))}


def offsets_of(marks: Mapping[str, str]) -> dict[str, float]:
    """Where a method's mark lies inside a row, so that none hides another."""
    step = _SPREAD / max(len(marks), 1)
    return {method: step * (place - (len(marks) - 1) / 2) for place, method in enumerate(marks)}


def point(axes: Axes, place: float, row: Mapping[str, Any], names: tuple[str, str, str], *, mark: str, colour: str) -> None:
    """A value with its interval, as `names` (value, low, high) call them; nothing where it is not known. Controls are open."""
    value, low, high = (row[name] for name in names)
    if value is None:
        return
    if low is not None and high is not None:
        axes.plot([low, high], [place] * 2, color=colour, linewidth=1.6, solid_capstyle="butt")
    face = "white" if colour == EVERYWHERE else colour
    axes.plot(value, place, mark, color=colour, markerfacecolor=face, markeredgecolor="black", markeredgewidth=0.6, markersize=5)


def legend(axes: Axes, marks: Mapping[str, str], controls: Iterable[str] = ()) -> None:
    """What each mark stands for, above the panel; controls are open."""
    open_ = set(controls)
    for method, mark in marks.items():
        face = "white" if method in open_ else "black"
        axes.plot([], [], mark, markerfacecolor=face, markeredgecolor="black", markersize=5, linestyle="none", label=method)
    axes.legend(fontsize="x-small", frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)


def stacked(wide: float, tall: Sequence[float]) -> tuple[Figure, Sequence[SubFigure]]:
    """A figure `wide` inches wide with a block for each height of `tall` (inches), one below the other; and the blocks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, sum(tall)), layout="constrained")
    return figure, list(figure.subfigures(len(tall), 1, squeeze=False, height_ratios=tall)[:, 0])


def rows_named(axes: Axes, names: Sequence[str], least: int = 3) -> None:
    """Rows from top to bottom with their names; `least` rows at least, so that bars and marks keep their size."""
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_ylim(max(len(names), least) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color="0.9", linewidth=0.5, zorder=0)
