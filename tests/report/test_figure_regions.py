"""Figures of regions: their colours, and every case drawn."""

from __future__ import annotations

import io

from PIL import Image

from scuba_ray.analyses.person import Person
from scuba_ray.analyses.selectivity import Selectivity
from scuba_ray.report.figure_regions import draw_person, draw_selectivity
from scuba_ray.report.palette import EVERYWHERE, region_colours
from tests.analyses.planted import caption_row, planted_tables, tables, voxel_row
from tests.analyses.test_selectivity import projected
from tests.report.test_figures import colours, rgb
from tests.study import TinyStudy


def test_regions_have_their_colours(study: TinyStudy) -> None:
    found, _ = planted_tables(voxels=300)
    wanted = {rgb(colour) for colour in (EVERYWHERE, *region_colours(["faces", "bodies", "words", "food"]).values())}
    assert wanted <= colours(draw_person(Person(study.config()).run(found)))
    assert wanted <= colours(draw_selectivity(Selectivity(study.config()).run(projected(found))))


def test_every_case_is_drawn(study: TinyStudy) -> None:
    captions = [caption_row(voxel, "a man.") for voxel in range(3)]
    cases = {
        "one voxel, an empty region": [voxel_row(0, ["one"]), voxel_row(1, ["two"]), voxel_row(2, ["none"], q=0.9)],
        "no regions": [voxel_row(voxel, None) for voxel in range(3)],
        "nothing significant": [voxel_row(voxel, ["faces"], q=0.9) for voxel in range(3)],
    }
    for voxels in cases.values():
        found = projected(tables(captions, voxels), split_half=None)
        for png in (
            draw_person(Person(study.config()).run(found)),
            draw_selectivity(Selectivity(study.config()).run(found)),
        ):
            assert Image.open(io.BytesIO(png)).format == "PNG"
