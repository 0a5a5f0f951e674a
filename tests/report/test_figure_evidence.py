"""Figures of support and recovery: the colours of regions, controls beside, and every case drawn."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from scuba_ray.analyses.recovery import RECOVERY
from scuba_ray.analyses.spoken import ALL
from scuba_ray.analyses.support import SUPPORT
from scuba_ray.analyses.support_summary import summarise
from scuba_ray.report.figure_evidence import draw_recovery, draw_support
from scuba_ray.report.figure_marks import LONGEST, short
from scuba_ray.report.palette import OKABE_ITO, region_colours
from tests.report.test_figures import colours, rgb

KEY = {"subject": "s", "backbone": "b"}


def noun(voxel: int, supported: bool | None, method: str = "brainscuba", rank: int = 0) -> dict[str, Any]:
    return {**KEY, "voxel_id": voxel, "method": method, "rank": rank, "noun": "dog", "supported": supported}


VOXELS = pa.Table.from_pylist([{**KEY, "voxel_id": voxel, "rois": ["faces"] if voxel < 4 else ["food"]} for voxel in range(6)])


def test_support_is_a_mean_over_voxels_of_nouns_that_were_asked_about() -> None:
    rows = [noun(0, True), noun(0, False), noun(1, True), noun(2, None), noun(4, False), noun(4, True, rank=2)]
    found = {(row["roi"], row["method"]): row for row in summarise(pa.Table.from_pylist(rows, schema=SUPPORT), VOXELS)}
    faces = found["faces", "brainscuba"]
    assert (faces["voxels"], faces["share"]) == (2, 0.75) and 0.5 <= faces["low"] < 0.75 < faces["high"] <= 1
    assert found[ALL, "brainscuba"]["share"] == 0.5 and found[ALL, "brainscuba"]["voxels"] == 3
    assert found["food", "brainscuba-concepts"]["share"] == 1 and found["food", "brainscuba-concepts"]["low"] is None


def test_support_is_drawn_in_the_regions_colours_and_says_so_if_there_is_none() -> None:
    rows = [noun(voxel, voxel % 2 == 0, method) for voxel in range(6) for method in ("brainscuba", "lavca")]
    png = draw_support(pa.Table.from_pylist(rows, schema=SUPPORT), VOXELS, 0.05)
    assert {rgb(colour) for colour in region_colours(["faces", "food"]).values()} <= colours(png)
    nothing = draw_support(pa.Table.from_pylist([noun(0, None)], schema=SUPPORT), VOXELS, 0.05)
    assert Image.open(io.BytesIO(nothing)).format == "PNG"


@pytest.mark.parametrize("ceiling", [0.9, 0.1])
def test_recovery_is_drawn_beside_controls(ceiling: float) -> None:
    row = {**KEY, "voxel_class": "single", "noise_ceiling": ceiling, "hit": True}
    methods = {"brainscuba": 1.0, "shuffled": 0.1, "shuffled-within-roi": 0.3, "most-frequent": 0.0}
    rows = [{**row, "voxel_id": voxel, "method": name, "chance": share} for name, share in methods.items() for voxel in range(4)]
    found = colours(draw_recovery(pa.Table.from_pylist(rows, schema=RECOVERY)))
    assert (rgb(OKABE_ITO["blue"]) in found) == (ceiling > 0.3), "below the ceiling nothing counts, and the figure says so"


def test_long_names_keep_their_ends() -> None:
    one, two = (short(f"lh-a-region-with-a-very-long-name-{number}") for number in (1, 2))
    assert one != two and len(one) == len(two) == LONGEST and one.endswith("-1")
    assert short("faces") == "faces"
