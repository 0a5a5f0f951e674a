"""Figures of nouns and verbs: regions in their colours, every case drawn."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from scuba_ray.analyses.nouns import Nouns
from scuba_ray.report.figure_terms import draw_terms
from scuba_ray.report.palette import EVERYWHERE, region_colours
from tests.analyses.planted import caption_row, planted_tables, tables, voxel_row
from tests.report.test_figures import colours, rgb
from tests.study import TinyStudy


def drawn(study: TinyStudy, captions: list[dict[str, Any]], voxels: list[dict[str, Any]]) -> bytes:
    table = Nouns(study.config(nouns={"tagger": "dictionary"})).run(tables(captions, voxels))
    return draw_terms(table, "noun")


def test_regions_have_their_colours(study: TinyStudy) -> None:
    found, _ = planted_tables(voxels=900)
    png = draw_terms(Nouns(study.config(nouns={"tagger": "dictionary"})).run(found), "noun")
    regions = region_colours(["faces", "bodies", "places", "words", "food", "objects"])
    assert {rgb(regions[roi]) for roi in ("faces", "bodies", "words")} <= colours(png), "full colour where q < 0.05"


def test_every_case_is_drawn(study: TinyStudy) -> None:
    captions = [caption_row(voxel, "a <b>dog</b> of an exceptionally-long-and-hyphenated-name.") for voxel in range(3)]
    several = [voxel_row(0, ["one"]), voxel_row(1, ["two"]), voxel_row(2, ["none"], q=0.9)]
    one, nowhere = drawn(study, captions, several), drawn(study, captions, [voxel_row(voxel, []) for voxel in range(3)])
    silent = drawn(study, captions, [voxel_row(voxel, ["faces"], q=0.9) for voxel in range(3)])
    assert {Image.open(io.BytesIO(png)).format for png in (one, nowhere, silent)} == {"PNG"}
    pale = {tuple(int(255 - 0.35 * (255 - part)) for part in rgb(EVERYWHERE))}
    assert any(abs(part - shade[0]) <= 2 for shade in pale for part, *_ in colours(nowhere)), "all voxels, where no regions are"
    assert len(colours(silent)) < 300, "a note in black on white"
