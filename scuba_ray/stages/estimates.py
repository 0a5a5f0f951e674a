"""What a run will need, from sizes alone and from a few rates: estimates, told as such by `scuba data check`.

S stimuli, T trials, T_s trials of the largest session, V voxels, D the length of an embedding, K pictures of the bank. What does
not grow with a subject (network weights, the interpreter: 1 to 2 GB a worker) is not in here.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scuba_ray.config import RunConfig
from scuba_ray.datasets.inspection import Inspection
from scuba_ray.stages.rates import rate_of
from scuba_ray.tables import files
from scuba_ray.tables.schemas import PARTITIONS

_GIB = 1 << 30


@dataclass(frozen=True)
class Sizes:
    """One subject's sizes, and what looking at it took."""

    stimuli: int
    trials: int
    largest_session: int
    voxels: int
    dim: int
    pictures: int | None
    """Of the bank; None where nobody counted them."""
    seconds_per_trial: float
    seconds_per_picture: float

    @classmethod
    def of(cls, look: Inspection, dim: int, pictures: int | None) -> Sizes:
        """From what was found."""
        facts = look.facts
        counts = (facts["images"], facts["trials"], facts["trials in the largest session"], facts["voxels"])
        return cls(*counts, dim, pictures, look.seconds_per_trial, look.seconds_per_picture)


def memory(config: RunConfig, sizes: Mapping[str, Sizes]) -> dict[str, float]:
    """Bytes of one worker by pass, for the subject that needs most.

    read       6 T_s V 4                                   (`PrepareConfig`)
    average    T (8 chunk + 3,000) + 12 S chunk            (`PrepareConfig`)
    fit        8 D (S + 3 F D) + 8 chunk (S + D (F + 4))   (`core.ridge`, F folds)
    project    hold_gib, or the bank in float16 if that is less; and 4 tile (2 chunk + D)   (`stages.project`)
    """
    block, folds, project = config.prepare.chunk, config.fit.folds, config.project
    needed: dict[str, float] = {"read": 0, "average": 0, "fit": 0, "project": 0}
    for one in sizes.values():
        held = project.hold_gib * _GIB
        bank = min(held, 2.0 * one.pictures * one.dim) if one.pictures is not None else held
        passes = {
            "read": 24 * one.largest_session * one.voxels,
            "average": one.trials * (8 * block + 3_000) + 12 * one.stimuli * block,
            "fit": 8 * one.dim * (one.stimuli + 3 * folds * one.dim)
            + 8 * config.fit.chunk * (one.stimuli + one.dim * (folds + 4)),
            "project": bank + 4 * project.tile * (2 * project.chunk + one.dim),
        }
        needed = {name: max(needed[name], size) for name, size in passes.items()}
    return needed


def disk(config: RunConfig, sizes: Mapping[str, Sizes]) -> dict[str, float]:
    """Bytes by table, all subjects together.

    sessions      T V 4, or 2 as float16: scratch of one subject at a time, deleted when its responses are complete
    responses     S V 4
    embeddings    S D 2 a backbone
    fits, voxels  V D 4 each, a backbone
    projections   6 V (4 D + 12 nearest): the whole bank and its five partitions
    bank          K D 2, where the run builds its own
    nearest       at most K (2 D + 100) or V pictures (2 D + 100), for `lavca` and `concepts`

    What does not grow with voxels or images is not in here: the report (some MB), and images that are synthesised (`budget`).
    """
    item, backbones = (4 if config.prepare.dtype == "float32" else 2), len(config.backbones)
    tables: dict[str, float] = {
        "sessions (scratch)": max(item * one.trials * one.voxels for one in sizes.values()),
        "responses": sum(4 * one.stimuli * one.voxels for one in sizes.values()),
        "embeddings": backbones * sum(2 * one.stimuli * one.dim for one in sizes.values()),
        "fits and voxels": backbones * sum(8 * one.voxels * one.dim for one in sizes.values()),
        "projections": sum((PARTITIONS + 1) * one.voxels * (4 * one.dim + 12 * config.project.nearest) for one in sizes.values()),
    }
    pictures = max((one.pictures or 0) * one.dim * 2 for one in sizes.values())
    if config.bank.path is None and pictures:
        tables["bank"] = pictures
    looked_at = max((one.pictures for one in (config.lavca, config.concepts) if one is not None), default=0)
    if looked_at:
        rows = min(sum(one.voxels for one in sizes.values()) * looked_at, max(one.pictures or math.inf for one in sizes.values()))
        tables["nearest pictures"] = rows * (2 * max(one.dim for one in sizes.values()) + 100)
    return tables


def seconds(config: RunConfig, sizes: Mapping[str, Sizes]) -> dict[str, dict[str, Any]]:
    """Seconds by step with `max_workers` workers, and where the rate comes from. A step without a known rate is left out."""
    engine = config.engine
    workers = engine.max_workers if engine.name == "ray" else 1
    own = config.bank.path is None
    pictures = max(one.pictures or 0 for one in sizes.values()) if own else 0
    images = sum(one.stimuli for one in sizes.values()) + pictures
    read = sum(one.trials * one.seconds_per_trial for one in sizes.values())
    decode = images * max(one.seconds_per_picture for one in sizes.values())
    here = "measured here on a sample"
    steps = {
        "read sessions": {"seconds": read / workers, "rate": here},
        "read and decode pictures": {"seconds": decode / workers / engine.threads, "rate": here},
    }
    work = {"fit": len(config.backbones) * sum(one.voxels * one.stimuli * one.dim for one in sizes.values())}
    if config.device != "cpu":  # a CPU's rate has reading and decoding in it
        work["encode"] = images * len(config.backbones)
    if all(one.pictures is not None for one in sizes.values()):
        work["project"] = sum(one.voxels * (one.pictures or 0) * one.dim for one in sizes.values())
    work["caption"] = (PARTITIONS + 1) * sum(one.voxels for one in sizes.values())
    models = {"encode": [one.model for one in config.backbones], "caption": [config.caption.model]}
    for step, amount in work.items():
        rate = rate_of(step, config.device, phantom=all(model.startswith("phantom:") for model in models.get(step, [""])))
        if rate is not None:
            each = rate.per_second * (engine.threads if config.device == "cpu" else 1)
            steps[step] = {"seconds": amount / each / workers, "rate": f"{rate.source}: {rate.work}"}
    return steps


def free_disk(out: str) -> int | None:
    """Free bytes where a run will be written; None where that is an object store."""
    if not files.is_local(out):
        return None
    place = Path(files.normalise(out))
    return shutil.disk_usage(next(one for one in (place, *place.parents) if one.exists())).free
