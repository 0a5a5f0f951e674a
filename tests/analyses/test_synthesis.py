"""Figures of made pictures: means, gains, shares with intervals, and what is null where nobody judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.analyses.synthesis import ALL, Synthesis, wilson
from scuba_ray.errors import ConfigError
from scuba_ray.tables.image_schemas import IMAGES
from tests.study import TinyStudy


def row(target: str, method: str, sample: int, **changes: Any) -> dict[str, Any]:
    key = {"subject": "s", "backbone": "b", "target": target, "method": method, "sample": sample, "kind": "roi"}
    known = {"target_category": target, "category": target, "category_mean": "food", "category_own": target}
    known |= {"category_own_mean": "food", "predicted": 0.5 + sample, "predicted_independent": 0.25 * sample}
    known |= {"natural_predicted": 0.1, "natural_predicted_independent": -0.1, "percentile": 90.0, "percentile_independent": 80.0}
    return {**key, **known, "seconds": 1.0 + sample, "batch": 4, **changes}


def figures(study: TinyStudy, rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    config = study.config(synthesize={"diffusion": {"model": "anything"}})
    table = Synthesis(config).run({"images": pa.Table.from_pylist(rows, schema=IMAGES).select(Synthesis.inputs["images"])})
    return {(one["target"], one["method"]): one for one in table.to_pylist()}


def test_a_target_has_means_gains_and_shares(study: TinyStudy) -> None:
    rows = [row("faces", "brainscuba", sample, category="faces" if sample < 3 else "food") for sample in range(4)]
    one = figures(study, rows)["faces", "brainscuba"]
    assert one["images"] == 4 and one["batch"] == 4 and one["seconds"] == 2.5 and one["target_category"] == "faces"
    assert one["predicted"] == pytest.approx(2.0) and one["gain"] == pytest.approx(1.9, abs=1e-6)
    assert one["gain_independent"] == pytest.approx(0.375 + 0.1, abs=1e-6)
    assert (one["classified"], one["classified_mean"], one["classified_own"], one["classified_own_mean"]) == (0.75, 0, 1, 0)
    assert (one["low"], one["high"]) == wilson(3, 4)


def test_regions_are_pooled_and_those_without_a_category_do_not_count(study: TinyStudy) -> None:
    rows = [row("faces", "braindive", 0), row("food", "braindive", 0, category="faces"), row("faces", "natural-top-100", 0)]
    rows += [row("objects", "braindive", sample, target_category=None) for sample in range(2)]
    rows += [row("voxel 7", "braindive", 0, kind="voxel", target_category="faces", category="words")]
    found = figures(study, rows)
    assert found[ALL, "braindive"]["images"] == 4 and found[ALL, "braindive"]["classified"] == 0.5
    assert found[ALL, "braindive"]["target_category"] is None and found[ALL, "natural-top-100"]["classified"] == 1
    assert found["objects", "braindive"]["classified"] is None and found["objects", "braindive"]["low"] is None
    assert found["voxel 7", "braindive"]["classified"] == 0


def test_what_nobody_judged_is_null(study: TinyStudy) -> None:
    blank = (
        "predicted_independent",
        "natural_predicted_independent",
        "percentile_independent",
        "natural_predicted",
        "percentile",
    )
    rows = [row("faces", "brainscuba", 0, category=None, category_mean=None, **dict.fromkeys(blank))]
    one = figures(study, rows)["faces", "brainscuba"]
    assert [one[name] for name in (*blank, "gain", "gain_independent", "classified", "classified_mean", "low", "high")] == [
        None
    ] * 11
    assert one["classified_own"] == 1 and one["predicted"] == 0.5


def test_wilsons_interval_covers() -> None:
    generator = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.9):
        intervals = [wilson(hits, 20) for hits in generator.binomial(20, share, 2000)]
        assert 0.9 < np.mean([low <= share <= high for low, high in intervals]) < 0.99
    assert (wilson(0, 10)[0], wilson(10, 10)[1]) == pytest.approx((0, 1)) and wilson(10, 10)[0] < 0.75
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)


def test_without_pictures_there_is_nothing_to_analyse(study: TinyStudy) -> None:
    with pytest.raises(ConfigError, match="makes none"):
        Synthesis(study.config())
