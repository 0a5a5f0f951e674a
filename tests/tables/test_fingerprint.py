"""Equal things have equal names, different ones different names, and what has no stable text has none."""

from __future__ import annotations

import hashlib
import math
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scuba_ray.tables.fingerprint import fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


def test_the_name_is_fixed_for_all_time() -> None:
    text = b'[{"beta":150.0,"k":[1,2]},"a"]'
    assert fingerprint({"k": (1, 2), "beta": 150.0}, "a") == hashlib.sha256(text).hexdigest()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_order_and_kind_of_mapping_do_not_matter(mapping: dict[str, Any]) -> None:
    turned = dict(reversed(mapping.items()))
    assert fingerprint(mapping) == fingerprint(turned) == fingerprint(MappingProxyType(mapping))


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), (1.0,)), (("1",), (1,)), (("a", "b"), (["a", "b"],)), (("ab",), ("a", "b")), ((None,), ("null",)), ((), (None,))],
)
def test_different_things_have_different_names(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert fingerprint(*one) != fingerprint(*other)


@pytest.mark.parametrize("thing", [object(), {1: "a"}, {"a"}, b"bytes", math.nan, math.inf])
def test_what_json_cannot_say_is_refused(thing: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        fingerprint({"setting": thing})
