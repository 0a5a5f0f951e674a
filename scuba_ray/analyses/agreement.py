"""agreement: do the captions of a region agree between subjects, and do other subjects' captions predict this one's responses?

Three measures, each per region and between subjects; a voxel counts for every region it belongs to:

    nouns       1 - Jensen-Shannon divergence (bits) of the nouns in the region's captions, for each pair of subjects
    embedding   cosine of the region's mean unit projected embedding, minus the mean over all of that subject's captioned voxels,
                with the same of the other subject, for each pair of subjects
    prediction  leave one subject out: an image's predicted response is the mean cosine of its embedding with the captions that
                all *other* subjects' voxels of the region have (through the backbone's text tower); `value` is its Spearman
                correlation over this subject's own test images with the measured response, averaged over the region's voxels

`other_rois` is the mean of the same measure with the other side's captions of every *other* region, and `gain` the difference:
how much the region itself matters. `shuffled` is the mean gain over permutations of the other side's voxels over its regions
(95 % of them lie between `shuffled_low` and `shuffled_high`), and `p` = (1 + #{permuted gain >= gain}) / (1 + permutations). The
test is of the gain, not of the value: mixed regions are all like the average, so they resemble each other more than regions that
mean something. Only the other side is permuted, for the same reason. Subjects may have different test images: each is judged on
its own. What cannot be compared has a null and a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.agreement_measures import Floats, Sayings, cosine, gains, noun_overlap, pooled_text, spearman
from scuba_ray.analyses.agreement_tables import measured_responses, sayings
from scuba_ray.config import RunConfig
from scuba_ray.errors import ConfigError
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.ways import METHOD

PERMUTATIONS = 200
"""Of voxels over regions. The smallest p is 1 / 201."""

_MEASURES = {"nouns": noun_overlap, "embedding": cosine}

AGREEMENT = pa.schema(
    [
        ("subject", pa.string()),
        ("other", pa.string()),
        ("backbone", pa.string()),
        ("roi", pa.string()),
        ("measure", pa.string()),
        ("value", pa.float32()),
        ("other_rois", pa.float32()),
        ("gain", pa.float32()),
        ("shuffled", pa.float32()),
        ("shuffled_low", pa.float32()),
        ("shuffled_high", pa.float32()),
        ("p", pa.float32()),
        ("voxels", pa.int64()),
        ("other_voxels", pa.int64()),
        ("images", pa.int64()),
        ("note", pa.string()),
    ]
)
"""`other` is null for predictions, which come from all other subjects. `voxels` and `other_voxels` are captioned voxels of the
region, `images` test images. `note` says why a value or a gain is null."""


class Agreement:
    """The agreement analysis of a run of several subjects.

    Memory: of each captioned voxel its projections (6 D floats) and its caption's embedding.

    Raises
    ------
    ConfigError
        If the configuration has one subject only.
    """

    name = "agreement"
    version = 2

    def __init__(self, config: RunConfig) -> None:
        if why := self.lacking(config):
            raise ConfigError(f"analyses: agreement {why}")
        self._config = config
        self.inputs: dict[str, tuple[str, ...]] = {
            "captions": ("subject", "backbone", "voxel_id", "partition", "method", "rank", "caption", "nouns"),
            "projections": ("subject", "backbone", "voxel_id", "partition", "embedding"),
            "voxels": ("subject", "backbone", "voxel_id", "rois"),
        }
        if any(subject.weights is None for subject in config.subjects):
            self.inputs["embeddings"] = ("subject", "backbone", "stimulus_id", "split", "embedding")
            # named for what it is made of; the responses themselves are read from the run folder, some voxels at a time
            self.inputs["responses"] = ("subject", "voxel_id")

    @staticmethod
    def lacking(config: RunConfig) -> str | None:
        """It takes two subjects."""
        return None if len(config.subjects) > 1 else f"compares subjects, and {config.subjects[0].name} is the only one"

    def fingerprint(self) -> Mapping[str, Any]:
        """Seed and number of permutations; data sets and models are in what made the captions."""
        return {"seed": self._config.seed, "permutations": PERMUTATIONS}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per region, measure and pair of subjects (or subject left out); see `AGREEMENT`."""
        captions = tables["captions"]
        whole = pc.and_(pc.equal(captions["partition"], WHOLE_BANK), pc.equal(captions["rank"], 0))
        captions = captions.filter(pc.and_(whole, pc.equal(captions["method"], METHOD)))
        rows: list[dict[str, Any]] = []
        for backbone in sorted(set(captions["backbone"].to_pylist())):
            tidy = {name: table for name, table in tables.items() if "backbone" in table.column_names}
            mine = {name: table.filter(pc.equal(table["backbone"], backbone)) for name, table in tidy.items()}
            mine["captions"] = captions.filter(pc.equal(captions["backbone"], backbone))
            rois, words, said = sayings(mine, self._config, backbone)
            rows += compare(rois, words, said, backbone=backbone, seed=self._config.seed)
            measured = measured_responses(mine, self._config, rois)
            rows += predict(rois, said, measured, backbone=backbone, seed=self._config.seed)
        return pa.Table.from_pylist(rows, schema=AGREEMENT)


def compare(
    rois: Sequence[str], words: int, said: Mapping[str, Sayings], *, backbone: str, seed: int, permutations: int = PERMUTATIONS
) -> Iterator[dict[str, Any]]:
    """Rows of `nouns` and `embedding` for every pair of subjects."""
    for (one, two), kind in product(combinations(said, 2), ("nouns", "embedding")):
        generator = np.random.default_rng(seed)
        fixed = said[one].profile(kind, said[one].member_RV, words)[:, None]

        def against(member_RV: Any, kind: str = kind, two: str = two, fixed: Floats = fixed) -> Floats:
            return _MEASURES[kind](fixed, said[two].profile(kind, member_RV, words)[None])

        all_RR = against(said[two].member_RV)
        drawn_BR = np.array([gains(against(said[two].shuffled(generator)))[0] for _ in range(permutations)])
        counts = {name: said[name].member_RV.sum(1) for name in (one, two)}
        for region, roi in enumerate(rois):
            absent = [name for name in (one, two) if not counts[name][region]]
            note = f"no captioned voxel of this region in {' and '.join(absent)}" if absent else None
            yield {
                **{"subject": one, "other": two, "backbone": backbone, "roi": roi, "measure": kind},
                **_figures(all_RR, drawn_BR, region, note),
                "voxels": int(counts[one][region]),
                "other_voxels": int(counts[two][region]),
            }


def predict(
    rois: Sequence[str],
    said: Mapping[str, Sayings],
    measured: Mapping[str, tuple[Floats, Floats]],
    *,
    backbone: str,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> Iterator[dict[str, Any]]:
    """Rows of `prediction` for every subject.

    Parameters
    ----------
    measured : mapping
        Of subjects with test images: their unit embeddings (S, D) and the mean response of each region (R, S).
    """
    for subject, own in said.items():
        generator = np.random.default_rng(seed)
        others = [one for name, one in said.items() if name != subject]
        count_R, other_R = own.member_RV.sum(1), np.sum([one.member_RV.sum(1) for one in others], axis=0)
        images = 0
        all_RR, drawn = np.full((len(rois), len(rois)), np.nan), np.full((permutations, len(rois)), np.nan)
        if subject in measured:
            X_SD, response_RS = measured[subject]
            images = len(X_SD)
            all_RR = spearman(response_RS, pooled_text(others, [one.member_RV for one in others]) @ X_SD.T)
            for draw in range(permutations):
                text_RD = pooled_text(others, [one.shuffled(generator) for one in others])
                drawn[draw], _ = gains(spearman(response_RS, text_RD @ X_SD.T))
        for region, roi in enumerate(rois):
            note = None
            if not images:
                note = "no embedded test images: there are none, or the weights were fitted elsewhere"
            elif not count_R[region] or not other_R[region]:
                note = f"no captioned voxel of this region in {subject if not count_R[region] else 'any other subject'}"
            yield {
                **{"subject": subject, "other": None, "backbone": backbone, "roi": roi, "measure": "prediction"},
                **_figures(all_RR, drawn, region, note),
                "voxels": int(count_R[region]),
                "other_voxels": int(other_R[region]),
                "images": images,
            }


def _figures(all_RR: Floats, drawn_BR: Floats, region: int, note: str | None) -> dict[str, Any]:
    """One region's value and its controls; null throughout where there is a note or nothing to compare."""
    value = all_RR[region, region]
    if note is not None or np.isnan(value):
        return {"note": note or "nothing to compare: no nouns, or responses that do not vary"}
    gain_R, others_R = gains(all_RR)
    if np.isnan(gain_R[region]):
        return {"value": value, "note": "no other region to compare with"}
    drawn_B = drawn_BR[~np.isnan(drawn_BR[:, region]), region]
    # a permutation that changes nothing counts, whatever rounding says
    reached = int((drawn_B >= gain_R[region] - 1e-9).sum())
    low, high = np.percentile(drawn_B, [2.5, 97.5]) if len(drawn_B) else (None, None)
    return {
        "value": value,
        "other_rois": others_R[region],
        "gain": gain_R[region],
        "shuffled": drawn_B.mean() if len(drawn_B) else None,
        "shuffled_low": low,
        "shuffled_high": high,
        "p": (1 + reached) / (1 + len(drawn_B)),
    }
