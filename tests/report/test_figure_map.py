"""The figure of the embedding map draws every subject, and says why one has no map."""

from __future__ import annotations

import io

from PIL import Image

from scuba_ray.analyses.embedding_map import EmbeddingMap
from scuba_ray.report.figure_map import draw_map
from tests.analyses.test_embedding_map import config, found_of
from tests.report.test_figures import colours
from tests.study import TinyStudy


def test_subjects_are_drawn_in_their_colours(study: TinyStudy) -> None:
    found = found_of(one=[0, 1, 2, 3] * 5, other=[-1, -2])
    table = EmbeddingMap(config(study, "one", "other")).run(found)
    png = draw_map(table, found["voxels"])
    assert Image.open(io.BytesIO(png)).size[1] > 900, "a row per subject"
    shown = colours(png)
    first = table.to_pylist()[0]
    wanted = [round(255 * first[name]) for name in "rgb"]
    assert min(max(abs(a - b) for a, b in zip(wanted, colour, strict=True)) for colour in shown) <= 2
    alone = found_of(one=[0, 1])
    assert draw_map(EmbeddingMap(config(study, "one")).run(alone), alone["voxels"])
