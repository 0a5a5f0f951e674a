"""probe: which of the probe's categories do images of each region show? A table of targets by categories, and how sure it is.

The answers are those of the table `images` (METHOD, section 5): of the independent judge and of the captioned backbone (`own`),
by the best prompt of each category, which favours categories with many prompts, and by the mean over its prompts. Natural
references are methods like the others: what the probe says of the stimuli that drove the same voxels most. The share of a
target's own category is `classified` of the analysis `synthesis`, and the interval is the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from scuba_ray.analyses.synthesis import Synthesis, wilson
from scuba_ray.config import RunConfig
from scuba_ray.config.scoring import OWN
from scuba_ray.errors import ConfigError
from scuba_ray.phantom.probe import prompts_of

BEST, MEAN = "best prompt", "mean over prompts"

PROBE = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("kind", pa.string()),
        ("target", pa.string()),
        ("target_category", pa.string()),
        ("method", pa.string()),
        ("judge", pa.string()),
        ("rule", pa.string()),
        ("category", pa.string()),
        ("images", pa.int64()),
        ("hits", pa.int64()),
        ("share", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("chance", pa.float64()),
        ("elsewhere", pa.float64()),
    ]
)
"""One row per target, method, judge, rule and category, also of categories that no image shows. `share` = `hits` / `images` that
the judge saw, with Wilson's 95 % interval over images; shares of a target sum to 1. `chance` is 1 / categories. `elsewhere` is
the same share among images by the same method for the subject's targets of this kind that do not belong to the target's
category: what a category draws whatever was asked for; null where there are none. `target_category` is null for targets that
belong to none; all others are elsewhere then."""

Answers = Sequence[Mapping[str, Any]]


class Probe:
    """The confusion table of all images of a run.

    Raises
    ------
    ConfigError
        If the run makes no images.
    """

    name = "probe"
    version = 1
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "images": (
            *("subject", "backbone", "kind", "target", "target_category", "method"),
            *("category", "category_mean", "category_own", "category_own_mean"),
        )
    }

    def __init__(self, config: RunConfig) -> None:
        if why := self.lacking(config):
            raise ConfigError(f"analyses: probe {why}")
        assert config.synthesize is not None, "or it was lacking"
        self._categories = list(prompts_of(config.synthesize.probe))
        judge = config.synthesize.judge
        self._columns = {(OWN, BEST): "category_own", (OWN, MEAN): "category_own_mean"}
        if judge is not None:
            self._columns |= {(judge, BEST): "category", (judge, MEAN): "category_mean"}

    lacking = staticmethod(Synthesis.lacking)

    def fingerprint(self) -> Mapping[str, Any]:
        """The categories, and who judges."""
        return {"categories": self._categories, "judges": [[*key] for key in self._columns]}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per target, method, judge, rule and category; see `PROBE`."""
        groups: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for row in tables["images"].to_pylist():
            groups[row["subject"], row["backbone"], row["kind"], row["method"]][row["target"]].append(row)
        rows = [
            {"subject": subject, "backbone": backbone, "kind": kind, "method": method, "judge": judge, "rule": rule, **found}
            for (subject, backbone, kind, method), targets in groups.items()
            for (judge, rule), column in self._columns.items()
            for found in self._shares(targets, column)
        ]
        return pa.Table.from_pylist(rows, schema=PROBE)

    def _shares(self, targets: Mapping[str, Answers], column: str) -> Iterator[dict[str, Any]]:
        """Rows of all targets of one method, as one judge answers by one rule."""
        counts = {name: Counter(one[column] for one in images if one[column] is not None) for name, images in targets.items()}
        wanted = {name: images[0]["target_category"] for name, images in targets.items()}
        for target, own in counts.items():
            others = [name for name in counts if name != target and (wanted[name] is None or wanted[name] != wanted[target])]
            rest, count = sum((counts[name] for name in others), Counter[str]()), own.total()
            for category in self._categories if count else ():
                low, high = wilson(own[category], count)
                yield {
                    "target": target,
                    "target_category": wanted[target],
                    "category": category,
                    "images": count,
                    "hits": own[category],
                    "share": own[category] / count,
                    "low": low,
                    "high": high,
                    "chance": 1 / len(self._categories),
                    "elsewhere": rest[category] / rest.total() if rest else None,
                }
