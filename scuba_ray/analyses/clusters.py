"""clusters: into which parts a region falls by what its voxels answer to, and what each part says, shows and predicts.

The weights of the region's voxels that count (`analyses.spoken`), brought to unit length, are divided by spherical k-means
(`core.parts`): the published split of the body area in two is `clusters.k: 2`. With `auto` the number is the one that random
halves of the voxels agree on best, among 2 to `clusters.largest`, the smallest within `CLOSE` of the best; where they agree on
none (below `STABLE`) the region stays in one part, and the note says so.

Of each part: its nouns (those that rank first against the region's other parts, `analyses.terms`); the bank pictures nearest to
its mean direction, among those that are near some voxel; and the mean response (z-scores) that its voxels' models predict to
these pictures and to those of the other parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from scuba_ray.analyses.part_weights import Weights
from scuba_ray.analyses.spoken import ALL, CAPTIONS, VOXELS, Spoken, agreed, spoken
from scuba_ray.analyses.terms import contrasts
from scuba_ray.config import RunConfig
from scuba_ray.core.parts import concentration, divide, stability
from scuba_ray.errors import ConfigError
from scuba_ray.models.nouns import nouns_of

STABLE, CLOSE = 0.5, 0.02
"""Adjusted Rand index of halves from which on a division counts, and differences that do not."""
NOUNS = 10
"""Nouns of a part at most."""

CLUSTERS = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("roi", pa.string()),
        ("level", pa.string()),
        ("part", pa.int32()),
        ("voxel_id", pa.int64()),
        ("voxels", pa.int64()),
        ("parts", pa.int32()),
        ("stability", pa.float64()),
        ("cosine", pa.float64()),
        ("concentration", pa.float64()),
        ("nouns", pa.list_(pa.string())),
        ("noun_shares", pa.list_(pa.float64())),
        ("image_ids", pa.list_(pa.string())),
        ("image_cos", pa.list_(pa.float64())),
        ("predicted_own", pa.float64()),
        ("predicted_other", pa.float64()),
        ("selection", pa.string()),
        ("note", pa.string()),
    ]
)
"""A row per part (`level` part; 0 is the largest) and per voxel (`level` voxel). `cosine` is of a voxel's weights with its part's
mean direction, for a part the mean of these; `concentration` is von Mises and Fisher's. A region that cannot be divided has one
row of `level` part with a note, and no part where it has no voxel. Predictions by weights that were fitted elsewhere without a
bias count it as 0, so only their difference holds."""


class Clusters:
    """Parts of regions. Memory: voxels of the largest region * D * 4 bytes, and the nearest pictures' embeddings."""

    name = "clusters"
    version = 2
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "captions": CAPTIONS,
        "voxels": (*VOXELS, "weight", "bias"),
        "nearest_pictures": ("backbone", "image_id", "embedding"),
    }

    def __init__(self, config: RunConfig) -> None:
        self._settings, self._seed, self._agreeing = config.clusters, config.seed, config.nouns.agreeing

    def fingerprint(self) -> Mapping[str, Any]:
        """Settings, seed of the starts and halves, and when captions name a noun."""
        return {**self._settings.model_dump(mode="json"), "seed": self._seed, "agreeing": self._agreeing}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, region and part or voxel; see `CLUSTERS`.

        Raises
        ------
        ConfigError
            If `clusters.rois` names a region that no subject has.
        """
        everyone = spoken(tables)
        known = sorted({roi for one in everyone for roi in one.rois})
        wanted = self._settings.rois if self._settings.rois is not None else tuple(known)
        strangers = sorted(set(wanted) - set(known))
        if strangers:
            raise ConfigError(f"clusters.rois has {', '.join(strangers)}; the regions are {', '.join(known) or 'none'}")
        rows = [row for one in everyone for row in self._rows(one, wanted, tables)]
        return pa.Table.from_pylist(rows, schema=CLUSTERS)

    def _rows(self, one: Spoken, wanted: tuple[str, ...], tables: Mapping[str, pa.Table]) -> Iterator[dict[str, Any]]:
        if not one.rois:
            yield {**one.key, "roi": ALL, "level": "part", "voxels": 0, "note": "this subject has no regions to divide"}
        weights = Weights.of(one, tables)
        nouns = [agreed({part: nouns_of(text) for part, text in said.items()}, self._agreeing) for said in one.captions]
        for roi, member_V in zip(one.rois, one.member_RV, strict=True):
            if roi not in wanted:
                continue
            index_N = np.flatnonzero(member_V)
            key = {**one.key, "roi": roi}
            if not len(index_N):
                yield {**key, "level": "part", "voxels": 0, "note": one.note(0, "")}
                continue
            unit_ND = weights.unit_VD[index_N]
            count, agreement, note = self._count(unit_ND)
            label_N, centre_kD = divide(unit_ND, count, self._seed)
            key |= {"parts": count, "stability": agreement}
            said = [nouns[index] for index in index_N]
            yield from self._parts({**key, "note": note}, weights.rows(index_N), label_N, centre_kD, said)
            cosine_N = (unit_ND * centre_kD[label_N]).sum(1)
            for index, label, cosine in zip(index_N, label_N.tolist(), cosine_N.tolist(), strict=True):
                yield {**key, "level": "voxel", "part": label, "voxel_id": one.voxel_ids[index], "voxels": 1, "cosine": cosine}

    def _count(self, unit_ND: Tensor) -> tuple[int, float | None, str | None]:
        """Number of parts, how well halves agree on it, and why there is only one."""
        tried = range(2, self._settings.largest + 1) if self._settings.k == "auto" else [self._settings.k]
        if len(unit_ND) < min(tried):
            return 1, None, f"voxels: {len(unit_ND)}, too few to divide into {min(tried)} parts"
        found = {k: stability(unit_ND, k, self._seed) for k in tried}
        if self._settings.k != "auto":
            agreement = found[self._settings.k]
            return self._settings.k, None if np.isnan(agreement) else agreement, None
        best = max((value for value in found.values() if not np.isnan(value)), default=-1.0)
        if best < STABLE:
            return 1, None, f"one part: no division into 2 to {self._settings.largest} is stable (halves agree up to {best:.2f})"
        count = min(k for k, value in found.items() if value >= best - CLOSE)
        return count, found[count], None

    def _parts(
        self,
        key: Mapping[str, Any],
        weights: Weights,
        label_N: Tensor,
        centre_kD: Tensor,
        said: list[set[str]],
    ) -> Iterator[dict[str, Any]]:
        nearest_kP, cos_kP = weights.nearest(centre_kD, self._settings.pictures)
        predicted_kk = weights.predicted(label_N, nearest_kP)
        words = _words(label_N.numpy(), len(centre_kD), said)
        for part, own in enumerate(words):
            inside_N = label_N == part
            figures: dict[str, Any] = {"nouns": [noun for noun, _ in own], "noun_shares": [share for _, share in own]}
            if inside_N.any():
                figures["cosine"] = float((weights.unit_VD[inside_N] @ centre_kD[part]).mean())
                narrow = concentration(weights.unit_VD[inside_N])
                figures["concentration"] = None if np.isnan(narrow) else narrow
            if nearest_kP.numel():
                figures["image_ids"] = [weights.image_ids[index] for index in nearest_kP[part].tolist()]
                figures["image_cos"] = cos_kP[part].tolist()
                figures["predicted_own"] = predicted_kk[part][part]
                others = [value for other, value in enumerate(predicted_kk[part]) if other != part]
                figures["predicted_other"] = sum(others) / len(others) if others else None
            yield {**key, "level": "part", "part": part, "voxels": int(inside_N.sum()), **figures}


def _words(label_N: npt.NDArray[np.int64], parts: int, said: list[set[str]]) -> list[list[tuple[str, float]]]:
    """For each part the nouns it says more than the others, surest first, with the share of its voxels that say them.

    Of a region in one part, the commonest.
    """
    terms = sorted(set().union(*said))
    number = {term: index for index, term in enumerate(terms)}
    flat_N2 = np.array([(voxel, number[noun]) for voxel, own in enumerate(said) for noun in own], np.int64).reshape(-1, 2)
    member_kN = label_N == np.arange(parts)[:, None]
    names = [str(part) for part in range(parts)]
    rows = [row for row in contrasts(names, member_kN, terms, flat_N2, "noun") if row["noun"] is not None]
    if parts == 1:
        rows.sort(key=lambda row: (-row["count"], row["noun"]))
    own = [[row for row in rows if row["roi"] == name and (parts == 1 or row["contrast"] > 0)] for name in names]
    return [[(row["noun"], row["share"]) for row in found[:NOUNS]] for found in own]
