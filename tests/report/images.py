"""Images of a run, written straight into its folder: pictures of the phantom's drawings, with judges' answers that are known."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from scuba_ray.analyses.synthesis import Synthesis
from scuba_ray.config.synthesis import DiffusionConfig, SynthesizeConfig
from scuba_ray.phantom.scenes import load_drawings, render, sample_scenes
from scuba_ray.tables.image_schemas import IMAGES, REQUESTS
from tests.report.synthetic import HOSTILE, Written, finish

STIMULI = ("a", "b", "c")
NOUNS = ("dog", "unicorn", "a very long noun indeed, longer than a picture is wide", "cat", "house")
VOXEL = 110
"""The voxel that has images of its own; the prompt of its third is HTML."""
QUERY = "food / <i>on</i> a table"


def write_images(
    written: Written,
    regions: tuple[str, ...] = ("faces", "food"),
    *,
    images: int = 4,
    subject: str = "subj01",
    parts: tuple[str, ...] = (),
) -> None:
    """Tables `requests` and `images`: regions by text and gradient, one voxel by text, one query, parts; natural references."""
    made: list[dict[str, Any]] = []
    targets = [*(("roi", name) for name in regions), ("voxel", f"voxel {VOXEL}"), ("query", QUERY)]
    for kind, target in [*targets, *(("part", name) for name in parts)]:
        place = {"subject": subject, "backbone": "tiny", "kind": kind, "target": target}
        for method in ("brainscuba", "lavca", "braindive") if kind == "roi" else ("brainscuba",):
            made += [_image({**place, "method": method, "sample": sample}, images) for sample in range(images)]
        for method, count in (("natural-top-100", 3), ("natural-top-1%", 1)):
            made += [_stimulus({**place, "method": method, "sample": rank}, rank) for rank in range(count)]
    asked = [row for row in made if row["stimulus_id"] is None]
    plan = [
        {name: row[name] for name in REQUESTS.names if name in row} | {"voxels": [110] if row["kind"] == "voxel" else [110, 111]}
        for row in asked
    ]
    folder = Path(next(one.path for one in written.config.subjects if one.name == subject) or "") / "images"
    for number, name in enumerate(STIMULI):
        (folder / f"{name}.png").write_bytes(picture(900 + number))
    table = pa.Table.from_pylist(made, schema=IMAGES)
    synthesize = SynthesizeConfig(diffusion=DiffusionConfig(model="nowhere"))
    analysis = Synthesis(written.config.model_copy(update={"synthesize": synthesize}))
    with written.run.lock():
        finish(written.run, "requests", f"{subject}/tiny", pa.Table.from_pylist(plan, schema=REQUESTS))
        finish(written.run, "images", f"{subject}/tiny", table)
        finish(written.run, "analyses/synthesis", "run", analysis.run({"images": table}))


@cache
def picture(number: int) -> bytes:
    """One of the phantom's scenes, 64 pixels, as PNG."""
    generator = torch.Generator().manual_seed(number)
    drawings = load_drawings()
    scenes = sample_scenes(generator, torch.tensor([[number * 7 % len(drawings), -1, -1]]))
    pixels = render(scenes, drawings)[0].permute(1, 2, 0).numpy()
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def _image(place: dict[str, Any], images: int) -> dict[str, Any]:
    """The later a sample, the better it is: rank 0 is the last."""
    target, method, sample = place["target"], place["method"], place["sample"]
    noun = NOUNS[sample % len(NOUNS)] if place["kind"] != "voxel" and method != "braindive" else None
    voxel_prompt = HOSTILE if sample == 2 else f"a caption of {target}"
    return _row(place) | {
        "rank": images - 1 - sample,
        "prompt": "" if method == "braindive" else f"A photo of a {noun}" if noun else voxel_prompt,
        "noun": noun,
        "seed": 1000 + sample,
        "png": picture(100 * len(target) + 10 * len(method) + sample),
        "stimulus_id": None,
        "predicted": 0.5 * sample - 0.25,
        "predicted_independent": 0.25 * sample if method != "lavca" else None,
        "percentile": 80.0 + sample,
        "percentile_independent": 70.0 + sample,
        "category": "faces" if sample % 2 else "food",
        "seconds": 1.5 if method == "braindive" else 0.25,
        "batch": 4,
        "truncated": False,
    }


def _stimulus(place: dict[str, Any], rank: int) -> dict[str, Any]:
    return _row(place) | {
        "rank": rank,
        "stimulus_id": STIMULI[rank],
        "predicted": 0.75 - 0.5 * rank,
        "predicted_independent": 0.5,
        "percentile": 99.0 - rank,
        "category": "faces",
    }


def _row(place: dict[str, Any]) -> dict[str, Any]:
    natural = {"natural_predicted": -0.0625, "natural_predicted_independent": 0.03125}
    return place | natural | {"target_category": place["target"] if place["kind"] == "roi" else None}
