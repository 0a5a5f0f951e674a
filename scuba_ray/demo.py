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

from scuba_ray.analyses.recovery_summary import CEILING, summarise
from scuba_ray.analyses.synthesis import ALL
from scuba_ray.config import RunConfig, make_config
from scuba_ray.phantom.make import make_phantom
from scuba_ray.pipeline import run
from scuba_ray.report.joined import keys
from scuba_ray.report.render import render
from scuba_ray.tables.progress import Progress
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD, MOST_FREQUENT, SHUFFLED, WITHIN_ROI

TABLE = "analyses/recovery"
SHOWN = 24
"""Voxels in the closing table: one per region and voxel class, at most so many."""
_HEADINGS = {METHOD: "its caption", SHUFFLED: "any voxel's", WITHIN_ROI: "its region's", MOST_FREQUENT: "most frequent"}
"""Whose caption is judged, method by method."""


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
            "backbones": ["phantom:clip", "phantom:judge"],
            "bank": {"images": f"{data}/bank"},
            "caption": {"model": "phantom:captioner"},
            "lavca": {},
            "concepts": {},
            "score": {"judges": ["phantom:judge"]},
            "synthesize": {
                "diffusion": {"model": "phantom:diffusion", "steps": 15, "batch": 12},
                "text": {"template": "A photo of {noun}"},
                "targets": ["rois", "voxels", "parts"],
                "voxels": 6,
                "parts": ["bodies"],
                "images": 6,
                "part_images": 3,
                "gradient": {
                    "diffusion": {"model": "phantom:diffusion", "steps": 25, "batch": 12},
                    "images": 2,
                    "self_attention": 0,
                },
                "judge": "judge",
                "probe": {"prompts": "phantom"},
                "chunk": 12,
            },
            "analyses": [
                "recovery",
                "support",
                "synthesis",
                "nouns",
                "beyond_nouns",
                "person",
                "selectivity",
                "clusters",
                "embedding_map",
            ],
        }
    )


def closing_words(run: RunFolder, *, width: int | None = None) -> str:
    """Return a sample of voxels with planted concept and caption, figures of captions and images, and where the report lies.

    Tables are `width` characters wide; none fits them to the terminal.
    """
    truth = run.read(TABLE)
    figures = summarise(truth)
    words = [
        render(_sample(truth, run.read("voxels", columns=["subject", "backbone", "voxel_id", "r2"])), width=width),
        f"Share of captions that name what was planted, in voxels with a noise ceiling of {CEILING:g} or more (95 % interval):",
        render(_rates(figures), width=width),
        "precision: the share of what a voxel's own caption names that was planted\n",
    ]
    for row in figures.to_pylist():
        if row["driver_and_companion"] is not None and row["method"] == METHOD:
            words.append(
                f"confound: {row['rate']:.2f} name the concept that drives the voxel, {row['companion']:.2f} the one that only "
                f"comes with it, {row['driver_and_companion']:.2f} both\n"
            )
        if row["both_concepts"] is not None:
            together = f"{row['both_concepts']:.2f} in the captions per concept"
            words.append(f"double: {row['both']:.2f} name both concepts in one caption, {together}\n")
    if run.keys("analyses/synthesis"):
        words.append(_images(run.read("analyses/synthesis")))
    words.append(f"beside other methods and controls, on held-out responses: scuba show {run.location} --compare\n")
    return "\n".join([*words, f"report: {run.location}/report/index.html"])


def _images(figures: pa.Table) -> str:
    """Whether pictures of regions show what these answer to, in a sentence."""
    shares = [
        f"{row['method']} {row['classified']:.2f} ({row['low']:.2f}-{row['high']:.2f})"
        for row in figures.filter(pc.equal(figures["target"], ALL)).to_pylist()
    ]
    return f"images of regions in which the independent judge sees the region's category (chance 0.20): {', '.join(shares)}\n"


def _sample(truth: pa.Table, voxels: pa.Table) -> pa.Table:
    """One voxel per class and region, drawn at random among those whose ceiling counts, where there are any."""
    r2_of = dict(zip(keys(voxels), voxels["r2"].to_pylist(), strict=True))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in truth.filter(pc.equal(truth["method"], METHOD)).to_pylist():
        groups.setdefault((row["voxel_class"], row["roi"]), []).append(row)
    draw = random.Random(0)
    drawn = [
        draw.choice([one for one in members if (one["noise_ceiling"] or 0) >= CEILING] or members)
        for _, members in sorted(groups.items())
    ]
    if len(drawn) > SHOWN:
        drawn = [drawn[index] for index in sorted(draw.sample(range(len(drawn)), SHOWN))]
    return pa.Table.from_pylist(
        [
            {
                "voxel_id": one["voxel_id"],
                "roi": one["roi"],
                "class": one["voxel_class"],
                "planted": one["concept"] or "nothing",
                "caption": one["caption"],
                "named": {True: "yes", False: "no", None: "–"}[one["hit"]],
                "r2": r2_of[one["subject"], one["backbone"], one["voxel_id"]],
            }
            for one in drawn
        ]
    )


def _rates(figures: pa.Table) -> pa.Table:
    """Recovery rates as text, a row per voxel class and a column per method."""
    rows: dict[str, dict[str, Any]] = {}
    for one in figures.to_pylist():
        row = rows.setdefault(
            one["voxel_class"], {"class": one["voxel_class"], "voxels": one["voxels"], **dict.fromkeys(_HEADINGS.values())}
        )
        row[_HEADINGS[one["method"]]] = f"{one['rate']:.2f} ({one['low']:.2f}-{one['high']:.2f})"
        if one["method"] == METHOD:
            row["precision"] = one["precision"]
    return pa.Table.from_pylist(list(rows.values()))
