"""Figures of images: the probe's confusion table and what images do to their region, in every case."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from scuba_ray.analyses.probe import PROBE, Probe
from scuba_ray.analyses.synthesis import Synthesis
from scuba_ray.report import figure_texts
from scuba_ray.report.figure_probe import draw_probe, shown
from scuba_ray.report.figure_synthesis import COLUMNS, draw_synthesis
from scuba_ray.report.palette import region_colours
from scuba_ray.tables.image_schemas import IMAGES
from tests.analyses.test_synthesis import row
from tests.report.test_figures import colours, rgb
from tests.study import TinyStudy


def images(regions: list[str], methods: list[str], **changes: Any) -> pa.Table:
    rows = [row(name, method, sample, **changes) for name in regions for method in methods for sample in range(3)]
    return pa.Table.from_pylist(rows, schema=IMAGES)


def drawn(study: TinyStudy, made: pa.Table, **settings: Any) -> tuple[bytes, bytes]:
    config = study.config(synthesize={"diffusion": {"model": "anything"}, **settings})
    probe, synthesis = Probe(config).run({"images": made}), Synthesis(config).run({"images": made})
    return draw_probe(probe), draw_synthesis(synthesis, made.select(COLUMNS), 0.2)


def test_regions_have_their_colours(study: TinyStudy) -> None:
    wanted = {rgb(colour) for colour in region_colours(["faces", "food"]).values()}
    for png in drawn(study, images(["faces", "food"], ["braindive", "natural-top-100"])):
        assert wanted <= colours(png)


@pytest.mark.parametrize(
    "made",
    [
        images(["faces"], ["braindive"], predicted_independent=None, natural_predicted_independent=None),
        images(["a region of a very long name " * 2], ["braindive"], target_category=None, natural_predicted=None),
        images([f"region {number}" for number in range(25)], ["braindive", "lavca", "brainscuba", "natural-top-1%"]),
        images(["voxel 7"], ["brainscuba"], kind="voxel"),
        images(["faces"], ["braindive"], subject="two"),
    ],
    ids=["no independent judge", "no category", "25 regions", "voxels alone", "another subject"],
)
def test_every_case_is_drawn_and_told(study: TinyStudy, made: pa.Table) -> None:
    for png in drawn(study, made):
        assert Image.open(io.BytesIO(png)).format == "PNG"
    config = study.config(synthesize={"diffusion": {"model": "anything"}})
    for analysis in (Probe(config), Synthesis(config)):
        assert len(figure_texts.texts(analysis.name, analysis.run({"images": made}))["alt"]) > 40


def test_without_a_judge_categories_are_those_of_the_captioned_model(study: TinyStudy) -> None:
    unjudged = {"predicted_independent": None, "natural_predicted_independent": None, "category": None, "category_mean": None}
    right, wrong = (images(["faces"], ["braindive"], **unjudged, category_own=seen) for seen in ("faces", "food"))
    assert drawn(study, right)[1] != drawn(study, wrong)[1]
    analysis = Synthesis(study.config(synthesize={"diffusion": {"model": "anything"}}))
    for made, share in ((right, "100%"), (wrong, "0%")):
        assert f"z, {share} in its category" in figure_texts.texts("synthesis", analysis.run({"images": made}))["alt"]


def test_the_most_independent_judge_is_shown_by_its_best_prompt() -> None:
    known = {"subject": "s", "kind": "roi", "target": "faces"}
    rows = [
        {**known, "judge": judge, "rule": rule} for judge in ("own", "other") for rule in ("best prompt", "mean over prompts")
    ]
    rows.append({**known, "kind": "voxel", "judge": "other", "rule": "best prompt"})
    left = shown(pa.Table.from_pylist(rows, schema=PROBE)).to_pylist()
    assert [(one["judge"], one["rule"], one["kind"]) for one in left] == [("other", "best prompt", "roi")]
