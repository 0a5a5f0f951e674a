"""`scuba demo`: the whole paper on the phantom, and what came back of what was planted.

The subject is written as files and read like anybody's data; the run itself is an ordinary configuration.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config import RunConfig, make_config
from scuba_ray.phantom.make import make_phantom
from scuba_ray.pipeline import run
from scuba_ray.report.explorer import RECOVERY
from scuba_ray.report.joined import voxel_rows
from scuba_ray.report.render import render
from scuba_ray.report.summary import CEILING, recovery
from scuba_ray.tables.steps import Progress
from scuba_ray.tables.store import RunFolder

SHOWN = 24
"""Voxels in the closing table: one per region and voxel class, at most so many."""


def run_demo(
    out: str,
    *,
    engine: str = "ray",
    seed: int = 0,
    voxels: int = 2000,
    images: int = 3000,
    bank: int = 20_000,
    listen: Callable[[Progress], None] | None = None,
    drawn: Callable[[int, int], None] | None = None,
) -> RunFolder:
    """Simulate the subject in `out`/phantom unless it is there, and complete its run in `out`.

    Parameters
    ----------
    out : str
        Folder of the run.
    engine : str
        `ray` or `local`.
    seed : int
        Of the subject and of the run.
    voxels, images, bank : int
        Voxels of the subject, pictures it sees, pictures in the bank.
    listen, drawn : callable, optional
        Told how far each step is, and how many pictures of how many are drawn.

    Raises
    ------
    ConfigError
        If `out` holds the run of another subject.
    ScubaError
        Whatever the run raises.
    """
    data = Path(out) / "phantom"
    make_phantom(data, seed=seed, voxels=voxels, images=images, bank=bank, progress=drawn)
    return run(demo_config(out, str(data), engine=engine, seed=seed), listen=listen)


def demo_config(out: str, data: str, *, engine: str = "ray", seed: int = 0) -> RunConfig:
    """Configuration of the demo; `examples/phantom.yaml` is the same, commented."""
    return make_config(
        {
            "name": "phantom",
            "out": out,
            "seed": seed,
            "engine": {"name": engine},
            "subjects": [{"name": "phantom", "path": data}],
            "backbones": ["phantom:clip"],
            "bank": {"images": f"{data}/bank"},
            "caption": {"model": "phantom:captioner"},
            "analyses": ["recovery"],
        }
    )


def closing_words(run: RunFolder) -> str:
    """Return a sample of voxels with planted concept and caption, the recovery figures and where the report lies."""
    truth = run.read(RECOVERY)
    return (
        f"{render(_sample(truth, voxel_rows(run)))}\n"
        f"Captions that name the planted concept, of voxels with a noise ceiling of {CEILING:g} or more (95 % interval):\n"
        f"{render(_figures(truth))}\n"
        f"report: {run.location}/report/index.html"
    )


def _sample(truth: pa.Table, voxels: pa.Table) -> pa.Table:
    """One voxel per region and class, drawn at random among those whose ceiling is not below `CEILING` where there are any."""
    own = truth.filter(pc.equal(truth["method"], truth["method"][0]))
    planted = {row["voxel_id"]: row for row in own.to_pylist()}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for voxel in voxels.to_pylist():
        row = planted[voxel["voxel_id"]]
        groups.setdefault((row["voxel_class"], ", ".join(voxel["rois"])), []).append({**voxel, **row})
    draw = random.Random(0)
    rows = []
    for (kind, roi), members in sorted(groups.items()):
        audible = [one for one in members if (one["noise_ceiling"] or 0) >= CEILING] or members
        one = draw.choice(audible)
        rows.append(
            {
                "voxel_id": one["voxel_id"],
                "roi": roi,
                "class": kind,
                "planted": one["concept"],
                "caption": one["caption"],
                "named": "–" if one["hit"] is None else "yes" if one["hit"] else "no",
                "r2": one["r2"],
            }
        )
    chosen = rows if len(rows) <= SHOWN else sorted(draw.sample(rows, SHOWN), key=lambda row: (row["class"], row["roi"]))
    return pa.Table.from_pylist(chosen)


def _figures(truth: pa.Table) -> pa.Table:
    """Recovery rates, a row per voxel class and a column per method."""
    methods = list(dict.fromkeys(truth["method"].to_pylist()))
    rows: dict[str, dict[str, Any]] = {}
    for one in recovery(truth):
        row = rows.setdefault(one["kind"], {"class": one["kind"], "voxels": one["voxels"], **dict.fromkeys(methods)})
        row[one["method"]] = f"{one['rate']:.2f} ({one['bounds'][0]:.2f}-{one['bounds'][1]:.2f})"
    return pa.Table.from_pylist(list(rows.values()))
