"""The figure of methods side by side, with and without images."""

from __future__ import annotations

import io

import pyarrow as pa
from PIL import Image

from scuba_ray.analyses.comparison import Comparison
from scuba_ray.analyses.synthesis import ALL, SYNTHESIS
from scuba_ray.report.figure_methods import draw_methods
from scuba_ray.report.palette import EVERYWHERE, OKABE_ITO
from tests.analyses.test_comparison import tables
from tests.report.test_figures import colours, rgb
from tests.study import TinyStudy


def test_methods_and_controls_are_told_apart(study: TinyStudy) -> None:
    table = Comparison(study.config(score={})).run(tables())
    key = {"subject": "s", "backbone": "b", "kind": "roi", "target": ALL, "images": 5, "predicted": 1.0}
    made = [{**key, "method": "braindive", "predicted_independent": 0.5}, {**key, "method": "natural-top-1%"}]
    alone, both = (draw_methods(table, images) for images in (None, pa.Table.from_pylist(made, schema=SYNTHESIS)))
    assert {rgb(OKABE_ITO["blue"]), rgb(EVERYWHERE)} <= colours(alone)
    assert Image.open(io.BytesIO(both)).size[0] > Image.open(io.BytesIO(alone)).size[0], "images have a panel of their own"
