"""The colours of regions: one region, one colour, on every figure; told apart with any common colour blindness.

Okabe and Ito's set without black and grey (these are the cortex), then those of Paul Tol's "muted" set that stay apart from
them, where a run has more regions.
"""

from __future__ import annotations

from collections.abc import Iterable

OKABE_ITO = {
    "orange": "#E69F00", "sky blue": "#56B4E9", "green": "#009E73", "yellow": "#F0E442", "blue": "#0072B2",
    "vermillion": "#D55E00", "purple": "#CC79A7",
}  # fmt: skip
NOWHERE = "#9A9A9A"
"""Voxels of no region."""
EVERYWHERE = "#4D4D4D"
"""All voxels together."""
TOL_MUTED = ("#332288", "#117733", "#999933", "#882255", "#AA4499")

_FIXED = {
    "faces": OKABE_ITO["vermillion"],
    "bodies": OKABE_ITO["orange"],
    "places": OKABE_ITO["blue"],
    "words": OKABE_ITO["green"],
    "food": OKABE_ITO["purple"],
}
"""The paper's regions look the same in every run."""


def region_colours(regions: Iterable[str]) -> dict[str, str]:
    """A colour (`#RRGGBB`) for each region, by name in alphabetical order; they repeat after 12."""
    names = sorted(set(regions))
    colours = {name: _FIXED[name] for name in names if name in _FIXED}
    free = [colour for colour in (*OKABE_ITO.values(), *TOL_MUTED) if colour not in colours.values()]
    others = [name for name in names if name not in colours]
    return colours | {name: free[index % len(free)] for index, name in enumerate(others)}
