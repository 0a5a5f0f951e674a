"""A noun is supported where the pictures show it, and marked where they do not."""

from __future__ import annotations

import numpy as np

from scuba_ray.analyses.support import judge_nouns


def test_a_noun_without_pictures_behind_it_is_marked() -> None:
    voxels, nouns = list(range(100)), ["dog", "tree"]
    similarity_VW = np.random.default_rng(0).normal(0, 0.01, (100, 2)).astype(np.float32)
    similarity_VW[:10, 0] += 0.5  # the first ten voxels see dogs
    captions = [{"voxel_id": voxel, "method": "brainscuba", "rank": 0, "nouns": ["dog"]} for voxel in range(10)]
    captions += [{"voxel_id": 50, "method": "brainscuba", "rank": 0, "nouns": ["dog", "tree"]}]
    rows = judge_nouns(captions, voxels, similarity_VW, nouns, level=0.05)
    said = {(row["voxel_id"], row["noun"]): row for row in rows}
    assert all(said[voxel, "dog"]["supported"] for voxel in range(10)), "many may name it: they are not each other's null"
    assert not said[50, "dog"]["supported"] and said[50, "dog"]["p"] > 0.05
    assert said[0, "dog"]["p"] == 1 / (1 + 89) and said[0, "dog"]["null_mean"] < 0.1


def test_p_is_uniform_where_the_noun_is_made_up() -> None:
    generator = np.random.default_rng(1)
    supported = []
    for _ in range(300):
        similarity_VW = generator.normal(size=(60, 1)).astype(np.float32)
        captions = [{"voxel_id": 0, "method": "m", "rank": 0, "nouns": ["x"]}]
        supported.append(judge_nouns(captions, list(range(60)), similarity_VW, ["x"], level=0.1)[0]["supported"])
    assert 0.05 < np.mean(supported) < 0.16


def test_too_few_others_are_no_null() -> None:
    captions = [{"voxel_id": voxel, "method": "m", "rank": 0, "nouns": ["x"]} for voxel in range(5)]
    rows = judge_nouns(captions, list(range(8)), np.ones((8, 1), np.float32), ["x"], level=0.05)
    assert [row.get("supported") for row in rows] == [None] * 5
    assert (
        judge_nouns([{"voxel_id": 99, "method": "m", "rank": 0, "nouns": ["x"]}], [0], np.ones((1, 1), np.float32), ["x"], 0.5)
        == []
    )
