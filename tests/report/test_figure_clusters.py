"""The figure of parts: regions in their colours, every case drawn."""

from __future__ import annotations

import io

from PIL import Image

from scuba_ray.analyses.clusters import Clusters
from scuba_ray.report.figure_clusters import draw_clusters
from scuba_ray.report.palette import region_colours
from tests.analyses.test_clusters import cloud, found_of
from tests.report.test_figures import colours, rgb
from tests.study import TinyStudy


def test_parts_are_drawn_in_their_regions_colours(study: TinyStudy) -> None:
    rois = [["faces"], ["food"], ["food"], ["none"]] * 5
    found = found_of(cloud(20), cloud(9), [*rois[:19], ["alone"]], q=[0.9 if own == ["none"] else 0.01 for own in rois])
    png = draw_clusters(Clusters(study.config(clusters={"k": 2})).run(found))
    assert {rgb(colour) for colour in region_colours(["faces", "food"]).values()} <= colours(png)


def test_a_subject_without_regions_is_drawn(study: TinyStudy) -> None:
    png = draw_clusters(Clusters(study.config()).run(found_of(cloud(2), cloud(3), [None, []])))
    assert Image.open(io.BytesIO(png)).format == "PNG"
