"""person: how often captions name people, voxel by voxel and region by region.

A voxel's share is that of its captions for the bank's disjoint partitions which name somebody (of the whole bank's caption,
where no partition was captioned): 0, .2, ... 1 with five. A region's is the mean over its voxels that count (`analyses.spoken`),
with a 95 % bootstrap interval over voxels: they share noise and images, so it says how sure the mean of *these* voxels is, not
of another subject's. `whole_bank` is the same of the whole bank's captions alone, as the paper counts. What names people is the
list in `models/people.py`, changed by `person.also` and `person.never`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from scuba_ray.analyses.recovery_summary import bootstrap
from scuba_ray.analyses.spoken import CAPTIONS, VOXELS, Spoken, spoken
from scuba_ray.config import RunConfig
from scuba_ray.models.nouns import nouns_of
from scuba_ray.models.people import PEOPLE
from scuba_ray.tables.schemas import WHOLE_BANK

DRAWS = 2000
"""Bootstrap draws."""

PERSON = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("level", pa.string()),
        ("roi", pa.string()),
        ("voxel_id", pa.int64()),
        ("person_share", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("whole_bank", pa.float64()),
        ("voxels", pa.int64()),
        ("captions", pa.int64()),
        ("selection", pa.string()),
        ("note", pa.string()),
    ]
)
"""Rows of `level` roi (also of `all voxels`) have no voxel_id, those of `level` voxel no roi and no interval. `captions` is how
many were read for `person_share`."""


class Person:
    """Shares of captions that name people."""

    name = "person"
    version = 2
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"captions": CAPTIONS, "voxels": VOXELS}

    def __init__(self, config: RunConfig) -> None:
        self._words = (PEOPLE | set(config.person.also)) - set(config.person.never)
        self._seed = config.seed

    def fingerprint(self) -> Mapping[str, Any]:
        """The words, and the bootstrap."""
        return {"words": sorted(self._words), "seed": self._seed, "draws": DRAWS}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject and region, and one per subject and voxel that counts; see `PERSON`."""
        rows = [row for one in spoken(tables) for row in self._rows(one)]
        return pa.Table.from_pylist(rows, schema=PERSON)

    def _rows(self, one: Spoken) -> Iterator[dict[str, Any]]:
        names = {text: not self._words.isdisjoint(nouns_of(text)) for said in one.captions for text in said.values()}
        read = [[text for part, text in said.items() if part != WHOLE_BANK] or [said[WHOLE_BANK]] for said in one.captions]
        share_V = np.array([np.mean([names[text] for text in texts]) for texts in read], np.float64)
        whole_V = np.array([names[said[WHOLE_BANK]] for said in one.captions], np.float64)
        for roi, member_V in one.members():
            row = {**one.key, "level": "roi", "roi": roi, "voxels": int(member_V.sum())}
            row["note"] = one.note(row["voxels"], "a share without an interval")
            if row["voxels"]:
                row |= {"person_share": share_V[member_V].mean(), "whole_bank": whole_V[member_V].mean()}
                row["captions"] = sum(len(texts) for texts, inside in zip(read, member_V, strict=True) if inside)
            if row["voxels"] > 1:
                row["low"], row["high"] = bootstrap(share_V[member_V], self._seed, DRAWS)
            yield row
        for voxel, share, whole, texts in zip(one.voxel_ids, share_V, whole_V, read, strict=True):
            figures = {"person_share": share, "whole_bank": whole, "voxels": 1, "captions": len(texts)}
            yield {**one.key, "level": "voxel", "voxel_id": voxel, **figures}
