"""The share of captions that name people ranks regions as planted, and knows people when it reads of them."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pyarrow as pa
import pytest

from scuba_ray.analyses.person import Person
from scuba_ray.analyses.spoken import ALL
from scuba_ray.phantom.concepts import ROIS
from tests.analyses.planted import caption_row, planted_tables, tables, voxel_row
from tests.study import TinyStudy

PEOPLE = {"heads", "people at work", "people at sports", "people in motion", "fabled people"}
"""Concepts of the phantom whose drawings show somebody."""


def regions(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["roi"]: row for row in table.to_pylist() if row["level"] == "roi"}


def test_regions_rank_as_planted(study: TinyStudy) -> None:
    found, truths = planted_tables(voxels=900)
    share = regions(Person(study.config()).run(found))
    planted = {
        roi: fmean(fmean(name in PEOPLE for name in one.concepts) for one in truths if one.roi == roi and one.concepts)
        for roi in ROIS
    }
    assert sorted(ROIS, key=lambda roi: -planted[roi])[:2] == ["bodies", "faces"]
    others = [roi for roi in ROIS if not planted[roi]]
    assert share["bodies"]["low"] > share["faces"]["high"] and len(others) == 4
    assert share["faces"]["low"] > max(share[roi]["high"] for roi in others), "bodies, then faces, then regions without people"
    assert share["bodies"]["low"] < share["bodies"]["person_share"] < share["bodies"]["high"]


@pytest.mark.parametrize(
    ("caption", "somebody"),
    [
        ("Two women laughing.", True),
        ("a group of people on a street.", True),
        ("A skateboarder in the air.", True),
        ("man astronaut and cat.", True),
        ("woman's hat and pizza.", False),
        ("a teddy bear on a bed.", False),
        ("grinning face and thumbs up.", False),
        ("a mailman is not on the list.", False),
    ],
)
def test_what_names_people(study: TinyStudy, caption: str, somebody: bool) -> None:
    table = Person(study.config()).run(tables([caption_row(0, caption)], [voxel_row(0, ["faces"])]))
    assert regions(table)["faces"]["whole_bank"] == somebody


def test_words_can_be_added_and_taken_away(study: TinyStudy) -> None:
    config = study.config(person={"also": ["mailman"], "never": ["baby"]})
    captions = [caption_row(0, "a mailman."), caption_row(1, "a baby.")]
    table = Person(config).run(tables(captions, [voxel_row(0, ["one"]), voxel_row(1, ["two"])]))
    assert [regions(table)[roi]["person_share"] for roi in ("one", "two")] == [1.0, 0.0]


def test_a_voxel_has_the_share_of_its_partitions_and_no_interval(study: TinyStudy) -> None:
    captions = [caption_row(7, "a man." if part in (-1, 0, 3) else "a dog.", partition=part) for part in range(-1, 5)]
    voxels = [voxel_row(7, ["faces"]), voxel_row(8, ["places"]), voxel_row(9, ["none"], q=0.9)]
    table = Person(study.config()).run(tables([*captions, caption_row(8, "a dog."), caption_row(9, "a man.")], voxels))
    by_voxel = {row["voxel_id"]: row for row in table.to_pylist() if row["level"] == "voxel"}
    assert by_voxel[7]["person_share"] == pytest.approx(0.4) and by_voxel[7]["whole_bank"] == 1.0 and by_voxel[7]["captions"] == 5
    assert by_voxel[8]["captions"] == 1 and set(by_voxel) == {7, 8}, "a voxel that is not significant has no row"
    found = regions(table)
    assert found["faces"]["note"].startswith("one voxel") and found["faces"]["low"] is None
    assert found["none"]["person_share"] is None and "no voxel of this region counts" in found["none"]["note"]
    assert found[ALL]["voxels"] == 2 and found[ALL]["low"] is not None


def test_without_regions_or_significant_voxels(study: TinyStudy) -> None:
    nowhere = Person(study.config()).run(tables([caption_row(0, "a man.")], [voxel_row(0, None)]))
    assert set(regions(nowhere)) == {ALL}
    none = Person(study.config()).run(tables([caption_row(0, "a man.")], [voxel_row(0, ["faces"], q=0.3)]))
    assert [row["person_share"] for row in none.to_pylist()] == [None, None]
    assert all("no captioned voxel counts" in row["note"] for row in none.to_pylist())
