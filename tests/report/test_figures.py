"""Figures of a run: written beside their table, skipped by readers of Parquet, shown on the page."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from scuba_ray.analyses.backbones import Backbones
from scuba_ray.pipeline import run
from scuba_ray.report.figures import draw_backbones
from scuba_ray.report.palette import NOWHERE, region_colours
from tests.analyses.test_backbones import config_of, voxels
from tests.study import TinyStudy, write_backbone


def colours(png: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_regions_have_the_colours_of_the_page() -> None:
    table = Backbones(config_of("clip", "judge")).run({"voxels": voxels()})
    png = draw_backbones(table, voxels())
    regions = region_colours(["faces", "OFA", "food"])
    assert {rgb(colour) for colour in regions.values()} <= colours(png)
    alone = Backbones(config_of("clip")).run({"voxels": voxels().slice(0, 40)})
    one, two = (Image.open(io.BytesIO(data)) for data in (draw_backbones(alone, voxels().slice(0, 40)), png))
    assert one.size[0] < two.size[0], "a panel of pairs for every further backbone"
    assert rgb(NOWHERE) not in {rgb(colour) for colour in regions.values()}


def test_a_run_writes_its_figure_beside_the_table_and_shows_it(own_study: TinyStudy) -> None:
    write_backbone(own_study.folder / "other", seed=1)
    backbones = [
        {"name": name, "model": f"local-dir:{own_study.folder / folder}"} for name, folder in (("a", "backbone"), ("b", "other"))
    ]
    folder = run(own_study.config(backbones=backbones, analyses=["backbones"]))
    place = Path(folder.location) / "analyses" / "backbones"
    png = (place / "_figure.png").read_bytes()
    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert pq.read_table(place).num_rows == folder.read("analyses/backbones").num_rows, "Parquet readers skip the figure"
    page = (Path(folder.location) / "report" / "index.html").read_text()
    assert '"figures":[{"name":"backbones","png":"' in page


def test_all_analyses_of_captions_run_by_name_and_are_drawn(own_study: TinyStudy) -> None:
    names = ["nouns", "beyond_nouns", "person", "selectivity", "clusters", "embedding_map"]
    folder = run(own_study.config(analyses=names))
    for name in names:
        place = Path(folder.location) / "analyses" / name
        assert folder.read(f"analyses/{name}").num_rows and (place / "_figure.png").stat().st_size > 5000, name
    page = (Path(folder.location) / "report" / "index.html").read_text()
    assert all(f'{{"name":"{name}","png":"' in page for name in names)
