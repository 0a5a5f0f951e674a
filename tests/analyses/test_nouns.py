"""The nouns of each region are those that were planted in it; the test is the permutation test; edge cases say what they are."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.analyses.nouns import Nouns
from scuba_ray.analyses.spoken import ALL, agreed
from scuba_ray.analyses.terms import tail
from scuba_ray.config import RunConfig
from scuba_ray.errors import ConfigError
from scuba_ray.phantom.concepts import ROIS
from tests.analyses.planted import belongs, caption_row, planted_tables, tables, voxel_row
from tests.study import TinyStudy


def config(study: TinyStudy, **settings: Any) -> RunConfig:
    return study.config(nouns={"tagger": "dictionary", **settings})


def rows_of(table: pa.Table, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(("agreeing", "worst"), [(2, 0.8), (0, 0.7)])
def test_top_nouns_of_a_region_are_those_planted_in_it(study: TinyStudy, agreeing: int, worst: float) -> None:
    """Captions name what was planted six times in ten, and something else each time; by one caption a region less is sure."""
    found, _ = planted_tables(voxels=900)
    table = Nouns(config(study, agreeing=agreeing)).run(found)
    right: dict[bool, list[float]] = {True: [], False: []}
    for roi in ROIS:
        for permuted, shares in right.items():
            top = [row["noun"] for row in rows_of(table, roi=roi, permuted=permuted) if row["rank"] <= 10]
            shares.append(fmean(belongs(noun, roi) for noun in top))
    assert fmean(right[False]) >= 0.8 and min(right[False]) >= worst and fmean(right[True]) <= 0.4, right
    sure = {permuted: len([row for row in rows_of(table, permuted=permuted) if (row["q"] or 1) < 0.05]) for permuted in right}
    assert sure[False] > 4 and sure[True] <= 2, sure


def test_only_significant_voxels_count_and_the_table_says_so(study: TinyStudy) -> None:
    captions = [caption_row(voxel, "a dog." if voxel < 6 else "a boat.") for voxel in range(10)]
    voxels = [voxel_row(voxel, ["faces"], q=0.01 if voxel < 4 else (None if voxel == 9 else 0.06)) for voxel in range(10)]
    table = Nouns(config(study)).run(tables(captions, voxels))
    (row,) = rows_of(table, roi="faces", permuted=False)
    assert (row["noun"], row["count"], row["voxels"], row["share"]) == ("dog", 4, 4, 1.0)
    assert row["selection"] == "voxels with q < 0.05" and row["tagger"] == "dictionary"
    unknown = Nouns(config(study)).run(tables(captions, [{**row, "q": None} for row in voxels]))
    assert {row["selection"] for row in unknown.to_pylist()} == {"all captioned voxels, as no q is known"}
    assert {row["noun"]: row["count"] for row in rows_of(unknown, roi="faces", permuted=False)} == {"dog": 6, "boat": 4}


def test_contrast_share_and_rank(study: TinyStudy) -> None:
    said = ["a dog and a tree.", "a dog.", "a tree.", "a boat and a tree."]
    captions = [caption_row(voxel, text) for voxel, text in enumerate(said)]
    voxels = [voxel_row(voxel, ["faces"] if voxel < 2 else ["places"]) for voxel in range(4)]
    table = Nouns(config(study)).run(tables(captions, voxels))
    faces = {row["noun"]: row for row in rows_of(table, roi="faces", permuted=False)}
    assert faces["dog"]["rank"] == 1 and faces["dog"]["share"] == 1.0 and faces["dog"]["expected"] == 0.5
    assert faces["dog"]["contrast"] == pytest.approx(np.log(5 / 3))
    assert faces["tree"]["contrast"] == pytest.approx(np.log(5 / 4) * (0.5 - 1.0))
    assert faces["dog"]["p"] == pytest.approx(1 / 6), "2 of 4 voxels name it, both of 2 here"
    everywhere = [(row["noun"], row["rank"]) for row in rows_of(table, roi=ALL)]
    assert everywhere == [("tree", 1), ("dog", 2), ("boat", 3)]


def test_p_is_that_of_permuting_voxels() -> None:
    rng = np.random.default_rng(0)
    names_VW, member_RV = rng.random((60, 5)) < [0.1, 0.3, 0.5, 0.7, 1.0], rng.random((3, 60)) < 0.3
    count_RW = member_RV.astype(int) @ names_VW
    p_RW = tail(count_RW, names_VW.sum(0), member_RV.sum(1), 60)
    drawn = np.array([member_RV[:, rng.permutation(60)].astype(int) @ names_VW for _ in range(4000)])
    np.testing.assert_allclose(p_RW, (drawn >= count_RW).mean(0), atol=0.03)
    assert (p_RW <= 1).all() and (p_RW[:, 4] == 1).all(), "a word that every voxel says belongs to no region"


def test_captions_of_partitions_must_agree() -> None:
    said = {-1: ["dog", "cake"], 0: ["dog", "dog"], 1: ["dog", "car"], 2: ["car"], 3: [], 4: ["cake"]}
    assert agreed(said, 2) == {"dog", "car"} and agreed(said, 0) == {"dog", "cake"} and agreed(said, 3) == set()
    assert agreed({-1: ["dog"], 4: ["cake"]}, 2) == {"cake"}, "a bank of one partition"
    assert agreed({-1: ["dog"]}, 2) == {"dog"}, "no partition was captioned"


def test_empty_and_one_voxel_regions_are_told(study: TinyStudy) -> None:
    captions = [caption_row(voxel, f"a {noun}.") for voxel, noun in enumerate(("dog", "boat", "boat", "boat"))]
    voxels = [voxel_row(0, ["one"]), voxel_row(1, ["two"]), voxel_row(2, ["two"]), voxel_row(3, ["none"], q=0.9)]
    table = Nouns(config(study)).run(tables(captions, voxels))
    (none,) = rows_of(table, roi="none")
    assert none["noun"] is None and none["voxels"] == 0 and "no voxel of this region counts" in none["note"]
    (one,) = rows_of(table, roi="one", permuted=False)
    assert one["noun"] == "dog" and one["note"].startswith("one voxel")
    (two,) = rows_of(table, roi="two", permuted=False)
    assert two["note"] is None and two["contrast"] == pytest.approx(np.log(4 / 3)), "an empty region is no other region"


def test_without_significant_voxels_or_regions_or_words(study: TinyStudy) -> None:
    captions = [caption_row(voxel, "a dog.") for voxel in range(3)]
    none = Nouns(config(study)).run(tables(captions, [voxel_row(voxel, ["faces"], q=0.5) for voxel in range(3)]))
    assert {(row["roi"], row["noun"], row["voxels"]) for row in none.to_pylist()} == {(ALL, None, 0), ("faces", None, 0)}
    assert all("no captioned voxel counts" in row["note"] for row in none.to_pylist())
    nowhere = Nouns(config(study)).run(tables(captions, [voxel_row(voxel, None) for voxel in range(3)]))
    (row,) = nowhere.to_pylist()
    assert (row["roi"], row["noun"], row["count"]) == (ALL, "dog", 3) and "no regions" in row["note"]
    silent = [caption_row(voxel, "of.") for voxel in range(3)]
    quiet = Nouns(config(study)).run(tables(silent, [voxel_row(voxel, ["faces"]) for voxel in range(3)]))
    assert {row["note"] for row in quiet.to_pylist()} == {"no captions agree on any"}


def test_a_tagger_that_is_not_there_is_told_before_the_run(study: TinyStudy) -> None:
    with pytest.raises(ConfigError, match="not installed"):
        Nouns(config(study, tagger="spacy:no_such_pipeline"))
    with pytest.raises(ConfigError, match=r"nouns\.tagger"):
        config(study, tagger="guess it")
