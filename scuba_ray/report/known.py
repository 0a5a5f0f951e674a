"""What there is instead of what was asked for: all of it, or where that is much the nearest few."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_ALL, _NEAREST = 12, 6
"""Names that are listed in full, and how many of more."""


def known_names(wanted: str, names: Iterable[str], what: str) -> str:
    """`regions: bodies, faces`; of many names, those that are written most like `wanted`.

    Parameters
    ----------
    what : str
        What the names are, in the plural.
    """
    known = sorted(set(names))
    if len(known) <= _ALL:
        return f"{what}: {', '.join(known) or 'none'}"
    by_case = {name.casefold(): name for name in reversed(known)}
    close = get_close_matches(wanted.casefold(), by_case, n=_NEAREST, cutoff=0.5)
    if close:
        return f"the nearest of {len(known):,} {what}: {', '.join(by_case[name] for name in close)}"
    return f"none of {len(known):,} {what} is written like it; the first: {', '.join(known[:_NEAREST])}"
