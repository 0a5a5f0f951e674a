"""probe: a confusion table that agrees with `synthesis`, and what a category draws whatever was asked for."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.analyses.probe import BEST, MEAN, Probe
from scuba_ray.analyses.synthesis import Synthesis, wilson
from scuba_ray.config.scoring import OWN
from scuba_ray.errors import ConfigError
from scuba_ray.tables.image_schemas import IMAGES
from tests.analyses.test_synthesis import row
from tests.study import TinyStudy

CATEGORIES = {"faces", "bodies", "places", "food", "words"}


def probed(study: TinyStudy, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    backbones = [{"name": name, "model": "local-dir:anywhere"} for name in ("tiny", "judge")]
    analysis = Probe(study.config(backbones=backbones, synthesize={"diffusion": {"model": "anything"}, "judge": "judge"}))
    found: list[dict[str, Any]] = analysis.run({"images": pa.Table.from_pylist(rows, schema=IMAGES)}).to_pylist()
    return found


def test_shares_of_every_category_sum_to_one_and_the_diagonal_is_that_of_synthesis(study: TinyStudy) -> None:
    rows = [row("faces", "braindive", sample, category="faces" if sample < 3 else "food") for sample in range(4)]
    rows += [row("food", "braindive", sample, category="faces") for sample in range(2)]
    found = probed(study, rows)
    cells = {(one["target"], one["judge"], one["rule"], one["category"]): one for one in found}
    assert len(found) == len(cells) == 2 * 4 * 5 and {one["category"] for one in found} == CATEGORIES
    for target in ("faces", "food"):
        assert sum(cells[target, "judge", BEST, category]["share"] for category in CATEGORIES) == pytest.approx(1)
    config = study.config(synthesize={"diffusion": {"model": "anything"}})
    judged = {
        one["target"]: one for one in Synthesis(config).run({"images": pa.Table.from_pylist(rows, schema=IMAGES)}).to_pylist()
    }
    for (judge, rule), column in {
        ("judge", BEST): "classified",
        ("judge", MEAN): "classified_mean",
        (OWN, BEST): "classified_own",
    }.items():
        assert [cells[one, judge, rule, one]["share"] for one in ("faces", "food")] == [
            judged[one][column] for one in ("faces", "food")
        ]
    one = cells["faces", "judge", BEST, "faces"]
    assert (one["images"], one["hits"], one["chance"]) == (4, 3, 0.2) and (one["low"], one["high"]) == wilson(3, 4)
    assert one["elsewhere"] == 1 and cells["food", "judge", BEST, "food"]["elsewhere"] == 0.25
    assert cells["food", "judge", BEST, "words"]["share"] == 0 < cells["food", "judge", BEST, "words"]["high"]


def test_targets_of_the_same_category_are_not_elsewhere(study: TinyStudy) -> None:
    rows = [row(name, "braindive", 0, target_category="faces", category="faces") for name in ("FFA-1", "FFA-2")]
    assert {one["elsewhere"] for one in probed(study, rows) if one["judge"] == "judge"} == {None}
    rows.append(row("V1", "braindive", 0, target_category=None, category="food"))
    cells = {
        (one["target"], one["category"]): one for one in probed(study, rows) if (one["judge"], one["rule"]) == ("judge", BEST)
    }
    assert cells["FFA-1", "food"]["elsewhere"] == 1 and cells["V1", "faces"]["elsewhere"] == 1


def test_what_nobody_judged_has_no_rows(study: TinyStudy) -> None:
    found = probed(study, [row("faces", "braindive", 0, category=None, category_mean=None)])
    assert {one["judge"] for one in found} == {OWN}
    assert probed(study, []) == []
    with pytest.raises(ConfigError, match="probe reads images, and this run makes none"):
        Probe(study.config())
