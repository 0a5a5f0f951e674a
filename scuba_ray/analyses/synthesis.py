"""synthesis: do pictures drive the voxels they were made for, and show what these answer to, beside natural pictures that do?

One row per target and method, and one per method for all regions together. Shares are of pictures whose zero-shot category is
their target's (chance is 1 / categories); targets that belong to no category of the probe have none. Intervals are Wilson's over
pictures: they say how sure the share of *this* target's pictures is, not of another subject's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import NormalDist, fmean, median
from typing import Any, ClassVar

import pyarrow as pa

from scuba_ray.config import RunConfig
from scuba_ray.errors import ConfigError

ALL = "all regions"
_MEANS = (
    *("predicted", "predicted_independent", "natural_predicted", "natural_predicted_independent"),
    *("percentile", "percentile_independent"),
)
_SHARES = {
    "classified": "category",
    "classified_mean": "category_mean",
    "classified_own": "category_own",
    "classified_own_mean": "category_own_mean",
}
"""Columns of shares, by what they are shares of."""

SYNTHESIS = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("kind", pa.string()),
        ("target", pa.string()),
        ("method", pa.string()),
        ("target_category", pa.string()),
        ("images", pa.int64()),
        *((name, pa.float64()) for name in _MEANS),
        ("gain", pa.float64()),
        ("gain_independent", pa.float64()),
        ("classified", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        *((name, pa.float64()) for name in _SHARES if name != "classified"),
        ("seconds", pa.float64()),
        ("batch", pa.int64()),
    ]
)
"""`predicted...` and percentiles are means over images, in z-scores and in percent; `gain` is the mean prediction minus that of
all of the subject's own stimuli. `classified` is the share in the target's category by the independent judge's best prompt, with
its 95 % interval, `classified_mean` by the mean over prompts, `classified_own...` by the captioned backbone. `seconds` is the
median per image, `batch` the most that were made together; null for natural images. What a run has no judge or data for is null.
The rows of `ALL` pool the images of all regions: means are of all of them, shares of those whose region has a category."""


class Synthesis:
    """The figures of all pictures of a run.

    Raises
    ------
    ConfigError
        If the run makes no pictures.
    """

    name = "synthesis"
    version = 1
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "images": (
            *("subject", "backbone", "kind", "target", "method", "target_category", "seconds", "batch"),
            *_MEANS,
            *_SHARES.values(),
        )
    }

    def __init__(self, config: RunConfig) -> None:
        if why := self.lacking(config):
            raise ConfigError(f"analyses: synthesis {why}")

    @staticmethod
    def lacking(config: RunConfig) -> str | None:
        """It takes images."""
        return None if config.synthesize else "reads images, and this run makes none: say how under `synthesize`"

    def fingerprint(self) -> Mapping[str, Any]:
        """It has no settings."""
        return {}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject, target and method, and per subject and method for all regions; see `SYNTHESIS`."""
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        regions: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for row in tables["images"].to_pylist():
            subject, backbone, kind, method = (row[name] for name in ("subject", "backbone", "kind", "method"))
            groups[subject, backbone, kind, row["target"], method].append(row)
            if kind == "roi":
                regions[subject, backbone, kind, ALL, method].append(row)
        names = ("subject", "backbone", "kind", "target", "method")
        rows = [
            {**dict(zip(names, key, strict=True)), **_figures(members)}
            for found in (groups, regions)
            for key, members in found.items()
        ]
        return pa.Table.from_pylist(rows, schema=SYNTHESIS)


def _figures(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of some images of one method."""
    means = {name: fmean(values) if (values := _known(images, name)) else None for name in _MEANS}
    figures: dict[str, Any] = {"images": len(images), **means}
    for suffix in ("", "_independent"):
        level, natural = means[f"predicted{suffix}"], means[f"natural_predicted{suffix}"]
        figures[f"gain{suffix}"] = None if level is None or natural is None else level - natural
    categories = {image["target_category"] for image in images}
    figures["target_category"] = categories.pop() if len(categories) == 1 else None
    for name, column in _SHARES.items():
        hits = [image[column] == image["target_category"] for image in images if image["target_category"] and image[column]]
        figures[name] = fmean(hits) if hits else None
        if name == "classified" and hits:
            figures["low"], figures["high"] = wilson(sum(hits), len(hits))
    seconds, batches = _known(images, "seconds"), _known(images, "batch")
    figures["seconds"] = median(seconds) if seconds else None
    figures["batch"] = int(max(batches)) if batches else None
    return figures


def _known(images: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [image[name] for image in images if image[name] is not None]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share, which stays in [0, 1] and is no point at 0 and 1 (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)
