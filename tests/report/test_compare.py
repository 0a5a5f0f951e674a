"""Methods and controls side by side, as numbers and for people."""

from __future__ import annotations

from scuba_ray.report.compare import WIDTH, comparison_table, for_people
from scuba_ray.report.render import render
from tests.report.synthetic import Written


def test_numbers_stay_numbers_and_unsupported_nouns_are_those_of_the_compared_voxels(evidenced: Written) -> None:
    rows = comparison_table(evidenced.run).to_pylist()
    assert [(row["judge"], row["method"]) for row in rows] == [
        (judge, method) for judge in ("independent", "own") for method in ("lavca", "shuffled-within-roi")
    ]
    assert rows[0]["low"] == -0.25 and rows[0]["minus_within_roi"] == 0.1
    voxels = evidenced.run.read("voxels", columns=["voxel_id", "noise_ceiling"]).to_pylist()
    assert next(row["noise_ceiling"] for row in voxels if row["voxel_id"] == 102) >= 0.3
    assert [row["unsupported_nouns"] for row in rows] == [0.5, None] * 2, "of fog and dog; voxels below the ceiling do not count"
    assert comparison_table(evidenced.run, roi="nowhere")["unsupported_nouns"].to_pylist() == [None] * 4


def test_a_row_for_people_is_one_line(evidenced: Written) -> None:
    text = render(for_people(comparison_table(evidenced.run)), width=WIDTH)
    lines = text.splitlines()
    assert len(lines) == 2 + 4, text
    assert "0.125 [-0.250, 0.500]" in lines[2] and "0.100 [0.050, 0.150]" in lines[2]
