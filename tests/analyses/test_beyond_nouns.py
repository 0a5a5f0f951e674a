"""Verbs by region, and relations where the tagger gives them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from scuba_ray.analyses.beyond_nouns import BeyondNouns
from scuba_ray.models.tagging import DictionaryTagger
from tests.analyses.planted import caption_row, tables, voxel_row
from tests.analyses.test_nouns import rows_of
from tests.study import TinyStudy


class Parsing(DictionaryTagger):
    """Knows the one relation that the captions below have."""

    name, parses = "parsing", True

    def relations(self, caption: str) -> list[str]:
        return ["man ride wave"] if "riding a wave" in caption else []


CAPTIONS = [caption_row(voxel, "a man riding a wave." if voxel < 5 else "a cat sleeping.") for voxel in range(10)]
VOXELS = [voxel_row(voxel, ["bodies"] if voxel < 5 else ["objects"]) for voxel in range(10)]


def test_verbs_of_a_region(study: TinyStudy) -> None:
    table = BeyondNouns(study.config(beyond_nouns={"tagger": "dictionary"})).run(tables(CAPTIONS, VOXELS))
    assert set(table["kind"].to_pylist()) == {"verb"}, "the dictionary knows no relations"
    (bodies,) = rows_of(table, roi="bodies", permuted=False)
    (objects,) = rows_of(table, roi="objects", permuted=False)
    assert (bodies["term"], bodies["count"], objects["term"]) == ("ride", 5, "sleep")
    assert bodies["p"] == pytest.approx(1 / 252), "5 of 10 voxels, all in the region of 5"


def test_relations_come_from_a_tagger_that_parses(study: TinyStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = ModuleType("parsing_plugin")
    plugin.Parsing = Parsing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parsing_plugin", plugin)
    table = BeyondNouns(study.config(beyond_nouns={"tagger": "parsing_plugin:Parsing"})).run(tables(CAPTIONS, VOXELS))
    (relation,) = rows_of(table, roi="bodies", kind="relation", permuted=False)
    assert relation["term"] == "man ride wave" and relation["tagger"] == "parsing"
    (silent,) = rows_of(table, roi="objects", kind="relation", permuted=False)
    assert silent["term"] is None and silent["note"] == "no captions agree on any"
