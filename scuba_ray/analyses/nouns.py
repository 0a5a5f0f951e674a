"""nouns: what each region's captions name, what they name more often than other regions', and how sure that is.

A voxel names a noun if the captions of at least `nouns.agreeing` of the bank's disjoint partitions do: a thing that happened to
stand beside another in one bank picture cannot be in two of them. `nouns.agreeing: 0` counts the whole bank's caption, as the
paper does. Only significant voxels count (`analyses.spoken`); formulas and the test are in `analyses.terms`.

On phantoms, of the ten nouns that rank first in a region these belong to it (mean over regions; after permuting voxels in
brackets): 2,000 voxels and 20,000 bank pictures 1.00 (.22), 400 and 6,000 .90 (.18), 300 and 2,000 .83 (.13). With the whole
bank's caption it is .98, .87 and .77.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from scuba_ray.analyses.spoken import CAPTIONS, VOXELS, agreed, spoken
from scuba_ray.analyses.terms import TERMS, term_rows
from scuba_ray.config import RunConfig
from scuba_ray.models.tagging import make_tagger

NOUNS = pa.schema([("subject", pa.string()), ("backbone", pa.string()), ("noun", pa.string()), *TERMS])
"""One row per region (and `all voxels`) and noun, measured and permuted; columns: `terms.TERMS`."""


class Nouns:
    """The nouns of a run's captions, by region. Memory: regions * nouns * 40 bytes."""

    name = "nouns"
    version = 1
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"captions": CAPTIONS, "voxels": VOXELS}

    def __init__(self, config: RunConfig) -> None:
        self._settings, self._seed = config.nouns, config.seed
        self._tagger = make_tagger(config.nouns.tagger)

    def fingerprint(self) -> Mapping[str, Any]:
        """Tagger and settings; the seed draws the permuted rows."""
        return {"tagger": self._tagger.fingerprint, "agreeing": self._settings.agreeing, "seed": self._seed}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, region and noun; see `NOUNS`."""
        rows: list[dict[str, Any]] = []
        for one in spoken(tables):
            nouns = {text: self._tagger.nouns(text) for said in one.captions for text in said.values()}
            named = [agreed({part: nouns[text] for part, text in said.items()}, self._settings.agreeing) for said in one.captions]
            found = term_rows(one, named, column="noun", seed=self._seed)
            rows += [{**row, "tagger": self._tagger.name} for row in found]
        return pa.Table.from_pylist(rows, schema=NOUNS)
