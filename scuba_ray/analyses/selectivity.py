"""selectivity: how narrow and how certain a voxel's caption is, voxel by voxel and region by region.

    n_eff              images: effective number of bank pictures that the projection averages; fewer is narrower
    split_half         cosine of the weights fitted on two halves of the stimuli
    bank_agreement     mean cosine of the projections on the bank's disjoint partitions
    half_agreement     mean cosine of the projections on two halves of the bank
    caption_agreement  mean over pairs of partitions of the nouns their captions share, |A and B| / |A or B| (Jaccard)

A region's value is the median over its voxels that count (`analyses.spoken`), with its quartiles. `chance` of caption_agreement
is its mean after giving every partition's captions to other voxels of the subject at random, to be held against `mean`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.spoken import CAPTIONS, VOXELS, Spoken, spoken
from scuba_ray.config import RunConfig
from scuba_ray.models.nouns import nouns_of
from scuba_ray.tables.schemas import WHOLE_BANK

UNITS = {
    "n_eff": "images",
    **dict.fromkeys(("split_half", "bank_agreement", "half_agreement"), "cosine"),
    "caption_agreement": "share of nouns",
}
"""What is measured, and in what."""
_PROJECTED = ("n_eff", "bank_agreement", "half_agreement")

SELECTIVITY = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("level", pa.string()),
        ("roi", pa.string()),
        ("voxel_id", pa.int64()),
        ("measure", pa.string()),
        ("unit", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("mean", pa.float64()),
        ("chance", pa.float64()),
        ("voxels", pa.int64()),
        ("selection", pa.string()),
        ("note", pa.string()),
    ]
)
"""One row per measure and region (`level` roi: median, quartiles, mean over `voxels` that have it) or voxel (`level` voxel). Null
where it is unknown: weights fitted elsewhere have no halves, a bank of one partition has nothing to agree."""

Floats = npt.NDArray[np.float64]


class Selectivity:
    """Narrowness and certainty of all captioned voxels that count."""

    name = "selectivity"
    version = 2
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "captions": CAPTIONS,
        "voxels": (*VOXELS, "split_half"),
        "projections": ("subject", "backbone", "voxel_id", "partition", *_PROJECTED),
    }

    def __init__(self, config: RunConfig) -> None:
        self._seed = config.seed

    def fingerprint(self) -> Mapping[str, Any]:
        """The seed of what is given to other voxels."""
        return {"seed": self._seed}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, measure and region or voxel; see `SELECTIVITY`."""
        rows: list[dict[str, Any]] = []
        for one in spoken(tables):
            values, chance_V = self._measured(one, tables)
            rows += _regions(one, values, chance_V)
            rows += _voxels(one, values)
        return pa.Table.from_pylist(rows, schema=SELECTIVITY)

    def _measured(self, one: Spoken, tables: Mapping[str, pa.Table]) -> tuple[dict[str, Floats], Floats]:
        """Each measure of each voxel that counts, NaN where unknown, and caption agreement by chance."""
        whole = tables["projections"].filter(pc.equal(tables["projections"]["partition"], WHOLE_BANK))
        values = {name: _column(whole, one, name) for name in _PROJECTED}
        values["split_half"] = _column(tables["voxels"], one, "split_half")
        nouns = {text: frozenset(nouns_of(text)) for said in one.captions for text in said.values()}
        parts = sorted({part for said in one.captions for part in said} - {WHOLE_BANK})
        named = [[nouns[said[part]] if part in said else None for said in one.captions] for part in parts]
        values["caption_agreement"] = caption_agreement(named, len(one.voxel_ids))
        generator = np.random.default_rng(self._seed)
        mixed = [[own[index] for index in generator.permutation(len(own))] for own in named]
        return values, caption_agreement(mixed, len(one.voxel_ids))


def caption_agreement(named: Sequence[Sequence[frozenset[str] | None]], voxels: int) -> Floats:
    """Mean Jaccard index over pairs of partitions, (V,); NaN where fewer than two were captioned.

    Parameters
    ----------
    named : sequence
        For each partition the nouns of each voxel's caption, None where it has none. Two captions without nouns agree.
    """
    pairs = [
        [np.nan if a is None or b is None else len(a & b) / len(a | b) if a | b else 1.0 for a, b in zip(one, other, strict=True)]
        for one, other in combinations(named, 2)
    ]
    pair_NV = np.array(pairs, np.float64).reshape(len(pairs), voxels)
    known_V = (~np.isnan(pair_NV)).sum(0)
    mean_V: Floats = np.where(known_V > 0, np.nansum(pair_NV, 0) / np.maximum(known_V, 1), np.nan)
    return mean_V


def _column(table: pa.Table, one: Spoken, name: str) -> Floats:
    """A number of each voxel that counts, NaN where null or missing."""
    own = table.filter(pc.and_(pc.equal(table["subject"], one.subject), pc.equal(table["backbone"], one.backbone)))
    place = pc.index_in(pa.array(one.voxel_ids, pa.int64()), own["voxel_id"].combine_chunks())
    values_V: Floats = own[name].cast(pa.float64()).combine_chunks().take(place).to_numpy(zero_copy_only=False)
    return values_V


def _regions(one: Spoken, values: Mapping[str, Floats], chance_V: Floats) -> Iterator[dict[str, Any]]:
    for roi, member_V in one.members():
        for measure, unit in UNITS.items():
            mine = values[measure][member_V]
            known = mine[~np.isnan(mine)]
            row = {**one.key, "level": "roi", "roi": roi, "measure": measure, "unit": unit, "voxels": len(known)}
            row["note"] = one.note(int(member_V.sum()), "its own value, no quartiles")
            if len(known):
                row |= {"value": np.median(known), "mean": known.mean()}
                random_V = chance_V[member_V]
                random_V = random_V[~np.isnan(random_V)]
                row["chance"] = random_V.mean() if measure == "caption_agreement" and len(random_V) else None
            elif row["note"] is None:
                row["note"] = "not known for any voxel of this region"
            if len(known) > 1:
                row["low"], row["high"] = np.percentile(known, [25, 75])
            yield row


def _voxels(one: Spoken, values: Mapping[str, Floats]) -> Iterator[dict[str, Any]]:
    for measure, unit in UNITS.items():
        for voxel, value in zip(one.voxel_ids, values[measure].tolist(), strict=True):
            known = None if np.isnan(value) else value
            row = {"voxel_id": voxel, "measure": measure, "unit": unit, "value": known, "voxels": int(known is not None)}
            yield {**one.key, "level": "voxel", **row}
