"""beyond_nouns: what happens in each region's captions: verbs, and who does what to what where the tagger parses sentences.

Counted and tested as nouns are (`analyses.nouns`), each kind of its own. A relation is `subject verb object`, in lemmas, and only
a tagger that parses gives any: spaCy does, the dictionary does not, and then the table has verbs only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from scuba_ray.analyses.spoken import CAPTIONS, VOXELS, agreed, spoken
from scuba_ray.analyses.terms import TERMS, term_rows
from scuba_ray.config import RunConfig
from scuba_ray.models.tagging import make_tagger

BEYOND_NOUNS = pa.schema(
    [("subject", pa.string()), ("backbone", pa.string()), ("kind", pa.string()), ("term", pa.string()), *TERMS]
)
"""One row per kind (`verb`, `relation`), region and term, measured and permuted; columns: `terms.TERMS`."""


class BeyondNouns:
    """Verbs and relations of a run's captions, by region. Memory: regions * terms * 40 bytes."""

    name = "beyond_nouns"
    version = 1
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"captions": CAPTIONS, "voxels": VOXELS}

    def __init__(self, config: RunConfig) -> None:
        self._settings, self._seed = config.beyond_nouns, config.seed
        self._tagger = make_tagger(config.beyond_nouns.tagger)

    def fingerprint(self) -> Mapping[str, Any]:
        """Tagger and settings; the seed draws the permuted rows."""
        return {"tagger": self._tagger.fingerprint, "agreeing": self._settings.agreeing, "seed": self._seed}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, kind, region and term; see `BEYOND_NOUNS`."""
        ways = {"verb": self._tagger.verbs}
        if self._tagger.parses:
            ways["relation"] = self._tagger.relations
        rows: list[dict[str, Any]] = []
        for one in spoken(tables):
            for kind, terms_of in ways.items():
                terms = {text: terms_of(text) for said in one.captions for text in said.values()}
                happens = [
                    agreed({part: terms[text] for part, text in said.items()}, self._settings.agreeing) for said in one.captions
                ]
                found = term_rows(one, happens, column="term", seed=self._seed)
                rows += [{**row, "kind": kind, "tagger": self._tagger.name} for row in found]
        return pa.Table.from_pylist(rows, schema=BEYOND_NOUNS)
