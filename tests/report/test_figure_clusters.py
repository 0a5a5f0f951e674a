"""The figure of parts: regions in their colours, every case drawn."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from scuba_ray.analyses.clusters import Clusters
from scuba_ray.report import synthesised
from scuba_ray.report.figure_clusters import draw_clusters
from scuba_ray.report.palette import region_colours
from scuba_ray.report.synthesised import made_for_parts
from tests.analyses.test_clusters import cloud, found_of
from tests.report.synthetic import Written
from tests.report.test_figures import colours, rgb
from tests.study import TinyStudy


def test_parts_are_drawn_in_their_regions_colours(study: TinyStudy) -> None:
    rois = [["faces"], ["food"], ["food"], ["none"]] * 5
    found = found_of(cloud(20), cloud(9), [*rois[:19], ["alone"]], q=[0.9 if own == ["none"] else 0.01 for own in rois])
    png = draw_clusters(Clusters(study.config(clusters={"k": 2})).run(found), {})
    assert {rgb(colour) for colour in region_colours(["faces", "food"]).values()} <= colours(png)


def test_a_subject_without_regions_is_drawn(study: TinyStudy) -> None:
    png = draw_clusters(Clusters(study.config()).run(found_of(cloud(2), cloud(3), [None, []])), {})
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_images_made_for_parts_are_drawn_below(parted: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    table, made = parted.run.read("analyses/clusters"), made_for_parts(parted.run)
    assert [target for _, _, target in made] == ["faces part 1", "faces part 2"]
    for methods in made.values():
        assert [(one.method, one.count, [image["rank"] for image in one.best]) for one in methods] == [
            ("brainscuba", 4, [0, 1, 2, 3])
        ]
    with monkeypatch.context() as patch:
        patch.setattr(synthesised, "BEST", 1)
        fewer = made_for_parts(parted.run)
    assert [[one.predicted for one in own] for own in fewer.values()] == [[one.predicted for one in own] for own in made.values()]
    shown = [[len(one.best) for one in own] for own in fewer.values()]
    assert shown == [[1], [1]], "the mean is of all, not of the best that are shown"
    without, drawn = (Image.open(io.BytesIO(draw_clusters(table, some))) for some in ({}, made))
    assert drawn.width == without.width and drawn.height > without.height + 100 * len(made)
