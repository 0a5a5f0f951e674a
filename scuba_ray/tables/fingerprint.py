"""What made a result, as one word: the sha256 of canonical JSON.

Two runs that would compute the same part give it the same fingerprint, whatever machine, engine or batch size they use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def fingerprint(*parts: Any) -> str:
    """Return 64 hex digits that name `parts` (anything JSON can say; mappings in any order, tuples as lists).

    Raises
    ------
    TypeError
        If a part is not JSON: an object's address in memory must never become a name.
    ValueError
        If a number is NaN or infinite, which JSON cannot say.
    """
    text = json.dumps([_plain(part) for part in parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(part: Any) -> Any:
    """Read-only mappings as dicts, all the way down; json does the rest and refuses what it does not know."""
    if isinstance(part, Mapping):
        wrong = [key for key in part if not isinstance(key, str)]
        if wrong:
            raise TypeError(f"keys of a fingerprint must be text, got {wrong[0]!r}")
        return {key: _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    return part
