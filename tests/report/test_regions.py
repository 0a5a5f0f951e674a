"""What the page says of a region: the numbers of the analyses' tables, notes where there is nothing, pictures of every part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scuba_ray.report.explorer import gather
from scuba_ray.report.regions import part_pictures
from tests.report.analysed import EMPTY_REGION, HOSTILE_NOUN, PICTURES, SELECTION, write_analyses, write_nouns
from tests.report.synthetic import Written, write_run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = write_run(tmp_path_factory.mktemp("regions"), subjects=("subj01", "subj02"))
    write_analyses(made)
    write_nouns(made)
    return made


@pytest.fixture(scope="module")
def data(written: Written) -> Any:
    return gather(written.run, written.config, thumbnail_bytes=1)


@pytest.fixture(scope="module")
def about(data: Any) -> Any:
    return {entry["name"]: entry for entry in data["sets"][0]["about"]}


def test_every_region_is_there_and_one_without_voxels_too(data: Any, about: Any) -> None:
    names = [region["name"] for region in data["regions"]]
    assert list(about) == ["all voxels", *names, EMPTY_REGION]
    assert [entry["region"] for entry in about.values()] == [None, *range(len(names)), -1]


def test_nouns_are_measured_ones_with_their_figures(about: Any) -> None:
    nouns = about["faces"]["nouns"]
    assert (nouns["counted"], nouns["voxels"]) == (SELECTION, 20)
    assert [one["noun"] for one in nouns["top"]] == ["man", HOSTILE_NOUN], "not those of permuted voxels"
    assert nouns["top"][0] == {"noun": "man", "count": 12, "share": 0.6, "expected": 0.4, "contrast": 0.5, "q": 0.001}
    assert about["all voxels"]["nouns"]["top"][0]["contrast"] is None


def test_people_and_parts(data: Any, about: Any) -> None:
    faces = about["faces"]
    assert faces["people"] == {"person_share": 0.5, "low": 0.25, "high": 0.75, "voxels": 9, "counted": SELECTION}
    assert faces["parts"]["stability"] == 0.75
    first, second = faces["parts"]["all"]
    assert first["nouns"] == [["man", 0.75], ["hat", 0.5]] and second["nouns"] == [[HOSTILE_NOUN, 0.75]]
    assert [[data["images"][image] for image in part["images"]] for part in (first, second)] == list(PICTURES)
    assert (first["predicted_own"], first["predicted_other"], first["voxels"]) == (1.5, -0.25, 9)


def test_what_there_is_too_little_for_is_said(about: Any) -> None:
    none = "no voxel of this region counts (voxels with q < 0.05)"
    assert about["food"]["notes"] == [["nouns", none], ["parts", "no voxel counts"]] and about["food"]["parts"]["all"] == []
    assert about[EMPTY_REGION]["notes"] == [["nouns", none]] and about[EMPTY_REGION]["nouns"]["top"] == []
    assert about["words"]["notes"] == [["nouns", "one voxel: these are its own captions' words"]]


def test_pictures_of_parts_are_drawn_before_those_of_voxels(data: Any) -> None:
    """The budget has room for one sheet only: its first pictures are the nearest of each part."""
    parts = [data["images"][image] for image in part_pictures(data["sets"][0]["about"])]
    assert parts == ["image00.png", "image02.png", "image01.png", "image03.png", "image04.png"]
    place = {data["images"][int(image)]: place for image, place in data["thumbnails"]["place"].items()}
    assert [place[name] for name in parts] == list(range(5))


def test_a_subject_without_analyses_has_its_regions_alone(data: Any, tmp_path: Path) -> None:
    about = data["sets"][1]["about"]
    assert len(about) == 6 and not any(entry["nouns"] or entry["people"] or entry["parts"] for entry in about)
    written = write_run(tmp_path, voxels=12)
    (one,) = gather(written.run, written.config)["sets"]
    assert one["about"][0]["name"] == "all voxels" and one["about"][0]["notes"] == []
