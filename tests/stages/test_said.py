"""Which captions are scored, and what the controls give each voxel."""

from __future__ import annotations

import pyarrow as pa

from scuba_ray.stages.said import controls, headline
from scuba_ray.tables.ways import MOST_FREQUENT, SHUFFLED, WITHIN_ROI


def captions(texts: list[str]) -> pa.Table:
    count = len(texts)
    columns = {"voxel_id": list(range(count)), "partition": [-1] * count, "method": ["brainscuba"] * count, "rank": [0] * count}
    return pa.table({**columns, "caption": texts})


def by_method(rows: pa.Table, method: str) -> dict[int, str]:
    return {row["voxel_id"]: row["caption"] for row in rows.to_pylist() if row["method"] == method}


def test_the_headline_is_the_whole_bank_at_rank_0_of_the_plain_method() -> None:
    plain = captions(["a", "b"])
    others = pa.table(
        {
            "voxel_id": [0, 0, 0],
            "partition": [3, -1, -1],
            "method": ["brainscuba", "brainscuba", "lavca"],
            "rank": [0, 1, 0],
            "caption": ["partition", "concept", "other"],
        }
    )
    assert headline(pa.concat_tables([others, plain])).to_pylist() == plain.to_pylist()


def test_controls_give_every_voxel_a_caption_made_for_another() -> None:
    texts = ["a", "b", "c", "d", "a"]
    rows = controls(captions(texts), [["faces"], ["faces"], ["food"], [], ["faces"]], seed=3)
    anywhere = by_method(rows, SHUFFLED)
    assert sorted(anywhere.values()) == sorted(texts), "each caption is used once"
    assert by_method(rows, MOST_FREQUENT) == dict.fromkeys(range(5), "a")
    within = by_method(rows, WITHIN_ROI)
    assert set(within) == {0, 1, 4}, "a voxel that is alone in its region has no other to take from"
    assert sorted(within.values()) == ["a", "a", "b"]
    assert within[1] == "a", "it is not given its own"
    assert controls(captions(texts), [[]] * 5, seed=3).equals(controls(captions(texts), [[]] * 5, seed=3)), "seeded"


def test_a_voxel_alone_is_not_its_own_control() -> None:
    rows = controls(captions(["a"]), [["faces"]], seed=3)
    assert rows["method"].to_pylist() == [MOST_FREQUENT]
