"""Names of parts and the keys they belong to."""

from __future__ import annotations

import pytest

from scuba_ray.protocols import Chunk
from scuba_ray.tables.parts import Unit, key_of


@pytest.mark.parametrize("key", ["subj01/tiny/brain-dive", "a b/é@x/_y", ".x/y", "_x", "run", "s-00001-aaaaaaaaaaaa.parquet/x"])
def test_a_part_tells_its_key(key: str) -> None:
    unit = Unit("", "step", "table", key, "0123456789abcdef")
    name = unit.part_name(Chunk(12, 0, 1))
    assert key_of(name) == key and unit.owns(name)


@pytest.mark.parametrize("name", ["_manifest.json", "notes.parquet", "subj01@tiny-00000-0123456789ab.parquet.tmp"])
def test_other_files_have_no_key(name: str) -> None:
    assert key_of(name) is None
