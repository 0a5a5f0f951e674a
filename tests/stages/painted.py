"""A subject in the world of words whose regions, statistics and captions are chosen, and a synthesizer that paints by rule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.analyses.clusters import CLUSTERS
from scuba_ray.config import DiffusionConfig, GradientRouteConfig, SynthesizeConfig, TextRouteConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import Backbone, Chunk, ImageRequest, MadeImage, Resources
from scuba_ray.stages.requests import Requests
from scuba_ray.tables.progress import Result
from scuba_ray.tables.schemas import CAPTIONS, voxels_schema
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder
from tests.stages.pictured import DIM, KEY, NAME, SUBJECT, WordBackbone, blend

SIDE = 16


class Painter:
    """Paints noise of the seed's own, in the prompt's own colour or along the direction. A prompt of `nan` has no picture."""

    def __init__(self, diffusion: DiffusionConfig, route: TextRouteConfig | GradientRouteConfig, backbone: Backbone) -> None:
        if diffusion.model == "absent":
            raise ConfigError("there is no model called absent")
        self._diffusion = diffusion
        self.fingerprint = hashlib.sha256(f"{diffusion.model} {diffusion.steps} {route}".encode()).hexdigest()[:16]

    def load(self, device: str) -> Painter:
        return self

    def images(self, requests: Sequence[ImageRequest]) -> list[MadeImage]:
        if any("nan" in request.prompt for request in requests):
            raise DataError("a picture is not finite")
        return [self._paint(request) for request in requests]

    def _paint(self, request: ImageRequest) -> MadeImage:
        colour = np.frombuffer(hashlib.sha256(request.prompt.encode()).digest()[:3], np.uint8) / 2
        noise = np.random.default_rng(request.seed).uniform(0, 100, (SIDE, SIDE, 3))
        if request.direction_D is not None:
            assert request.direction_D.dtype == np.float32
            noise[0, :, 0] = 100 * np.abs(request.direction_D[:SIDE])
        return MadeImage((noise + colour).astype(np.uint8), 0.25, self._diffusion.batch, truncated=len(request.prompt) > 60)


def voxel(wants: str, **columns: Any) -> dict[str, Any]:
    """A fitted, significant voxel; `wants` are its words, and its caption unless another one is given."""
    good = {"rois": ["all"], "status": "ok", "q": 0.01, "r2": 0.2, "r2_normalised": 0.5, "caption": f"a {wants}."}
    return {"wants": wants, **good, **columns}


def write_voxels(run: RunFolder, voxels: Sequence[Mapping[str, Any]]) -> None:
    """Tables voxels and captions (with rows that no plan should read); ids count from 10."""
    ids = range(10, 10 + len(voxels))
    rows = [
        {
            **{name: one[name] for name in ("rois", "status", "q", "r2", "r2_normalised")},
            "subject": SUBJECT,
            "backbone": NAME,
            "voxel_id": index,
            "weight": (0.3 * blend(one["wants"])).astype(np.float32).tolist() if one["status"] == "ok" else None,
        }
        for index, one in zip(ids, voxels, strict=True)
    ]
    write_unit(run, "voxels", KEY, pa.Table.from_pylist(rows, voxels_schema(DIM)))
    for method in ("brainscuba", "lavca"):
        said = []
        for index, one in zip(ids, voxels, strict=True):
            caption = one.get(method, one["caption"])
            if caption is None:
                continue
            for partition, rank in ((-1, 0), (-1, 1), (0, 0)):
                text = caption if (partition, rank) == (-1, 0) else "a wrong row."
                key = {"subject": SUBJECT, "backbone": NAME, "voxel_id": index, "partition": partition, "rank": rank}
                said.append({**key, "method": method, "caption": text, "nouns": nouns_of(text)})
        key = KEY if method == "brainscuba" else f"{KEY}/{method}"
        write_unit(run, "captions", key, pa.Table.from_pylist(said, CAPTIONS))


def write_division(folder: Path, regions: Mapping[str, Sequence[tuple[Sequence[int], Sequence[str]]]], note: str = "") -> None:
    """Table analyses/clusters: of each region its parts, each with its voxels and nouns; a region without parts has the note."""
    rows: list[dict[str, Any]] = []
    for roi, parts in regions.items():
        key = {"subject": SUBJECT, "backbone": NAME, "roi": roi}
        rows += [] if parts else [{**key, "level": "part", "note": note}]
        for part, (voxels, nouns) in enumerate(parts):
            of_part = {**key, "part": part, "note": note if len(parts) == 1 else None}
            rows.append({**of_part, "level": "part", "nouns": nouns})
            rows += [{**key, "part": part, "level": "voxel", "voxel_id": voxel} for voxel in voxels]
    rows.append({"subject": "another", "backbone": NAME, "roi": "all", "level": "part", "part": 0, "nouns": ["sea"]})
    write_unit(RunFolder(str(folder)), "analyses/clusters", "run", pa.Table.from_pylist(rows, CLUSTERS))


def write_unit(run: RunFolder, table: str, key: str, rows: pa.Table) -> None:
    unit = run.begin(step=table, table=table, key=key, fingerprint="a" * 64)
    whole = [Chunk(0, 0, rows.num_rows)]
    unit.write(whole[0], rows)
    run.finish(unit, whole)


def settings(**changes: Any) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate({"diffusion": {"model": "paint"}, "images": 2, **changes})


def request(run: RunFolder, wanted: SynthesizeConfig, steps: Steps, *, seed: int = 0) -> Result:
    """The step, as the driver completes it."""
    methods = wanted.text.captions if wanted.text else ()
    stage = Requests(
        subject=SUBJECT,
        network=WordBackbone(),  # type: ignore[arg-type]
        captions={method: KEY if method == "brainscuba" else f"{KEY}/{method}" for method in methods},
        run=run,
        settings=wanted,
        seed=seed,
        resources=Resources(),
    )
    rows = run.rows("voxels", KEY)
    return steps.complete(stage, key=KEY, rows=rows, chunk=rows, inputs=[], here=True, may_be_empty=True)


def plan(folder: Path, voxels: Sequence[Mapping[str, Any]], /, **changes: Any) -> tuple[pa.Table, dict[str, str]]:
    """The requests for some voxels, and what went to quarantine."""
    run = RunFolder(str(folder))
    write_voxels(run, voxels)
    request(run, settings(**changes), Steps(run, no_engine, about={}))
    quarantine = run.quarantine()
    return run.read("requests", key=KEY), dict(zip(quarantine["key"].to_pylist(), quarantine["reason"].to_pylist(), strict=True))


def no_engine() -> Any:
    raise AssertionError("planned in the driver")
