"""Maps of what analyses found: the numbers of their tables, missing ones null, and only of analyses that the run has."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scuba_ray.report.explorer import gather
from tests.report.analysed import colour_of, counts, part_of, person_share, write_analyses
from tests.report.synthetic import Written, write_run


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    written = write_run(tmp_path_factory.mktemp("analysed"), subjects=("subj01", "subj02"))
    write_analyses(written)
    return written


@pytest.fixture(scope="module")
def data(analysed: Written) -> Any:
    return gather(analysed.run, analysed.config)


@pytest.fixture(scope="module")
def maps(data: Any) -> Any:
    return {one["key"]: one for one in data["sets"][0]["maps"]}


def test_shares_of_people_are_those_of_the_table(data: Any, maps: Any) -> None:
    voxels = data["sets"][0]["voxel"]
    assert maps["person"]["values"] == [person_share(voxel) if counts(voxel) else None for voxel in voxels]
    assert (maps["person"]["low"], maps["person"]["high"]) == (0, 1) and maps["person"]["counted"] == "voxels with q < 0.05"


def test_a_measure_without_a_value_has_no_map(maps: Any) -> None:
    assert maps["caption_agreement"]["values"][0] == 0.1 and "half_agreement" not in maps


def test_parts_of_regions(data: Any, maps: Any) -> None:
    voxels, parts = data["sets"][0]["voxel"], maps["parts:faces"]
    found = {voxels[row]: part for row, part in zip(parts["rows"], parts["part"], strict=True)}
    assert found and found == {voxel: part_of(voxel) for voxel in found} and all(map(counts, found))
    assert [part["nouns"] for part in parts["parts"]] == [["man", "hat"], ["<b>noun</b>"]]
    assert maps["parts:food"]["parts"] == [] and maps["parts:food"]["note"] == "no voxel counts"


def test_embedding_colours_are_bytes_and_missing_ones_marked(data: Any, maps: Any) -> None:
    bytes_V4 = np.frombuffer(base64.b64decode(maps["embedding"]["colours"]), np.uint8).reshape(-1, 4)
    voxels = data["sets"][0]["voxel"]
    wanted = [[*colour_of(voxel), 1 / 255] if counts(voxel) else [0] * 4 for voxel in voxels]
    np.testing.assert_allclose(bytes_V4, 255 * np.array(wanted), atol=0.5)
    assert maps["embedding"]["explained"] == 0.25 and len(maps["embedding"]["ends"]) == 3


def test_nouns_come_with_their_captions_the_most_frequent_first(analysed: Written, data: Any, maps: Any) -> None:
    rows = analysed.run.read("captions", key="subj01/tiny").to_pylist()
    said = Counter(noun for row in rows if row["partition"] < 0 for noun in row["nouns"])
    noun, one = maps["noun"], data["sets"][0]
    assert dict(zip(noun["words"], noun["counts"], strict=True)) == said
    assert noun["counts"] == sorted(noun["counts"], reverse=True)
    first = noun["words"][0]
    texts = set(noun["texts"][0])
    named = {voxel for voxel, caption in zip(one["voxel"], one["caption"], strict=True) if caption in texts}
    assert named == {row["voxel_id"] for row in rows if row["partition"] < 0 and first in row["nouns"]} and named


def test_other_subjects_and_runs_have_the_maps_of_their_own(data: Any, tmp_path: Path) -> None:
    mine = {one["key"] for one in data["sets"][1]["maps"]}
    assert "noun" in mine and not mine & {"person", "embedding", "parts:faces", "caption_agreement"}
    written = write_run(tmp_path, voxels=12)
    (one,) = gather(written.run, written.config)["sets"]
    assert not {entry["key"] for entry in one["maps"]} & {"person", "embedding", "parts:faces", "caption_agreement"}
