"""A finished run written straight through the run folder: few voxels or many, on fsaverage5, with known captions and scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scuba_ray.analyses.recovery import RECOVERY
from scuba_ray.config import RunConfig, make_config
from scuba_ray.datasets.geometry import surface
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import Chunk
from scuba_ray.tables.columns import table_of, vectors
from scuba_ray.tables.schemas import CAPTIONS, bank_schema, projections_schema, voxels_schema
from scuba_ray.tables.store import RunFolder

DIM, BANK, PARTITIONS = 8, 40, 5
HOSTILE = '<img src=x onerror="window.hacked=1"></script><b>bold</b>'
THINGS = {
    "faces": ("a smiling man in a hat", "two women laughing"),
    "bodies": ("a person running on a track", "children dancing"),
    "places": ("a house beside a lake", "an empty street at night"),
    "words": ("a street sign with letters", "a page of printed text"),
    "food": ("a plate of pasta", "a bowl of ripe fruit"),
}
CENTRES = {
    "faces": (38, -62, -18),
    "bodies": (44, -74, 4),
    "places": (26, -48, -12),
    "words": (42, -52, -16),
    "food": (32, -60, -14),
}
"""Roughly where a region lies on the right pial surface, mm; the left one mirrors it."""


@dataclass(frozen=True)
class Written:
    """A run folder and the configuration it belongs to."""

    run: RunFolder
    config: RunConfig


def write_run(
    folder: Path, *, voxels: int = 60, subjects: tuple[str, ...] = ("subj01",), geometry: str | None = "fsaverage5"
) -> Written:
    """A complete run in `folder/run`; voxel 0's caption is HTML, voxels 1 and 2 share a vertex, voxel 3 is a volume voxel."""
    rng = np.random.default_rng(0)
    ids = _bank_pictures(folder / "bank", rng)
    run = RunFolder(str(folder / "run"))
    config = _config(folder, subjects)
    with run.lock():
        run.claim({subject: f"data of {subject}" for subject in subjects})
        bank = {"backbone": "tiny", "image_id": ids, "uri": ids, "source": "bank", "norm": np.ones(BANK)}
        embedding = vectors(rng.normal(size=(BANK, DIM)).astype(np.float16))
        finish(run, "bank", "tiny", table_of(bank_schema(DIM), {**bank, "embedding": embedding, "partition": 0}))
        for subject in subjects:
            _write_subject(folder / subject, geometry)
            rows = _voxels(subject, voxels, rng)
            key = f"{subject}/tiny"
            finish(run, "voxels", key, rows)
            finish(run, "projections", key, _projections(subject, voxels, ids, rng))
            finish(run, "captions", key, _captions(subject, rows))
        finish(run, "analyses/recovery", "run", _recovery(run.read("voxels")))
        settings = config.model_dump(mode="json")
        run.write_run_json(
            {"name": config.name, "config": settings, "versions": {"torch": "2.14"}, "steps": {"fit": {"seconds": 1.5}}}
        )
    return Written(run, config)


def finish(run: RunFolder, table: str, key: str, rows: pa.Table) -> None:
    """Write one finished unit."""
    unit = run.begin(step=table, table=table, key=key, fingerprint="f" * 64)
    chunk = Chunk(0, 0, rows.num_rows)
    unit.write(chunk, rows)
    run.finish(unit, [chunk])


def _config(folder: Path, subjects: tuple[str, ...]) -> RunConfig:
    return make_config(
        {
            "name": "synthetic",
            "out": str(folder / "run"),
            "subjects": [{"name": subject, "path": str(folder / subject)} for subject in subjects],
            "backbones": [{"name": "tiny", "model": "local-dir:nowhere"}],
            "bank": {"images": str(folder / "bank")},
            "caption": {"model": "nowhere"},
        }
    )


def _bank_pictures(folder: Path, rng: np.random.Generator) -> list[str]:
    folder.mkdir(parents=True)
    for index in range(BANK):
        pixels = np.kron(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), np.ones((20, 24, 1), np.uint8))
        Image.fromarray(pixels).save(folder / f"image{index:02d}.png")
    return [f"image{index:02d}.png" for index in range(BANK)]


def _write_subject(folder: Path, geometry: str | None) -> None:
    """The least a data set of the `arrays` layout may hold; the report wants its surface only."""
    (folder / "images").mkdir(parents=True)
    (folder / "dataset.json").write_text(
        json.dumps({"layout": "arrays", "version": 1, "subject": folder.name, "geometry": geometry})
    )
    ids = ["a", "b", "c"]
    stimuli = {"stimulus_id": ids, "uri": [f"{one}.png" for one in ids], "split": ["train", "train", "test"]}
    pq.write_table(pa.table(stimuli), folder / "stimuli.parquet")
    trials = {"trial": [0, 1, 2], "stimulus_id": ids, "session": pa.array([0, 0, 0], pa.int32())}
    pq.write_table(pa.table(trials), folder / "trials.parquet")
    pq.write_table(pa.table({"voxel_id": [0]}), folder / "voxels.parquet")
    np.save(folder / "responses.npy", np.zeros((3, 1), np.float32))


def _places(count: int) -> tuple[list[str], list[int], list[list[str]]]:
    """Hemisphere, vertex and region of each voxel: the vertices nearest to the regions' centres, hemispheres in turn."""
    pials = {hemi: surface("pial", hemi)[0] for hemi in ("lh", "rh")}
    spots = {
        hemi: {name: np.array([(-1 if hemi == "lh" else 1) * x, y, z]) for name, (x, y, z) in CENTRES.items()} for hemi in pials
    }
    ranked = []
    for hemi, coords in pials.items():
        distance = np.stack([np.linalg.norm(coords - centre, axis=1) for centre in spots[hemi].values()])
        order = np.argsort(distance.min(axis=0))[: max(count, 8)]
        names = np.array(list(CENTRES))[distance.argmin(axis=0)]
        ranked.append([(hemi, int(vertex), [str(names[vertex])]) for vertex in order])
    mixed = [place for pair in zip(*ranked, strict=True) for place in pair]
    mixed = [mixed[index % len(mixed)] for index in range(count)]
    return [hemi for hemi, _, _ in mixed], [vertex for _, vertex, _ in mixed], [rois for _, _, rois in mixed]


def _voxels(subject: str, count: int, rng: np.random.Generator) -> pa.Table:
    hemi, vertex, rois = _places(count)
    hemi[2], vertex[2] = hemi[1], vertex[1]
    i = np.full(count, None, dtype=object)
    vertex_or_none: list[int | None] = list(vertex)
    vertex_or_none[3], i[3] = None, 4
    rois[4] = []
    ceiling = rng.uniform(0, 0.8, count).astype(np.float32)
    r2 = (ceiling * rng.uniform(0.1, 0.9, count)).astype(np.float32)
    r2[1], r2[2] = 0.25, 0.5
    columns: dict[str, Any] = {
        "subject": subject, "backbone": "tiny", "voxel_id": np.arange(count) + 100, "hemi": hemi, "vertex": vertex_or_none,
        "i": list(i), "j": list(i), "k": list(i), "xyz": vectors(np.zeros((count, 3), np.float32)), "rois": rois,
        "weight": vectors(rng.normal(size=(count, DIM)).astype(np.float32)), "bias": np.zeros(count),
        "alpha": np.full(count, 100.0), "alpha_at_edge": False, "r2": r2, "r": np.sqrt(r2), "noise_ceiling": ceiling,
        "r2_normalised": r2 / np.maximum(ceiling, 0.1), "p": rng.uniform(0, 0.1, count), "q": rng.uniform(0, 0.1, count),
        "split_half": rng.uniform(0.5, 1, count), "status": "ok", "bad_trials": np.zeros(count, np.int32),
    }  # fmt: skip
    return table_of(voxels_schema(DIM), columns)


def _projections(subject: str, count: int, ids: list[str], rng: np.random.Generator) -> pa.Table:
    rows = count * (PARTITIONS + 1)
    near = rng.integers(0, BANK, (rows, 8))
    columns: dict[str, Any] = {
        "subject": subject, "backbone": "tiny", "voxel_id": np.repeat(np.arange(count) + 100, PARTITIONS + 1),
        "partition": np.tile(np.arange(-1, PARTITIONS), count).astype(np.int32),
        "embedding": vectors(rng.normal(size=(rows, DIM)).astype(np.float32)), "cos_before_after": np.full(rows, 0.6),
        "n_eff": np.exp(rng.uniform(0, 6, rows)), "bank_agreement": np.full(rows, 0.8), "missing_mass": np.zeros(rows),
        "nearest_ids": [[ids[index] for index in row] for row in near],
        "nearest_cos": [[0.5 - 0.01 * place for place in range(8)]] * rows,
    }  # fmt: skip
    return table_of(projections_schema(DIM), columns)


def _captions(subject: str, voxels: pa.Table) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for voxel, rois in zip(voxels["voxel_id"].to_pylist(), voxels["rois"].to_pylist(), strict=True):
        said = THINGS[rois[0]] if rois else ("something indistinct", "a blur")
        for partition in range(-1, PARTITIONS):
            caption = (
                HOSTILE
                if voxel == 100
                else f"{said[(voxel + partition) % 2]} ({voxel})"
                if partition < 0
                else said[partition % 2]
            )
            key = {"subject": subject, "backbone": "tiny", "voxel_id": voxel, "partition": partition}
            rows.append(
                {
                    **key,
                    "method": "brainscuba",
                    "rank": 0,
                    "caption": caption,
                    "logprob": -0.5,
                    "nouns": nouns_of(caption),
                    "share": None,
                }
            )
    return pa.Table.from_pylist(rows, schema=CAPTIONS)


def _recovery(voxels: pa.Table) -> pa.Table:
    """The phantom's verdicts: every third voxel a hit, every ninth for a shuffled control; classes in turn."""
    kinds = ("single", "double", "broad", "confound", "nuisance", "null", "single")
    rows = []
    for index, voxel in enumerate(voxels.select(["subject", "backbone", "voxel_id", "noise_ceiling"]).to_pylist()):
        kind = kinds[index % len(kinds)]
        silent = kind in {"nuisance", "null"}
        for method, every in (("brainscuba", 3), ("shuffled-within-roi", 9)):
            hit = None if silent else index % every == 0
            rows.append({
                **voxel, "method": method, "voxel_class": kind, "concept": None if silent else "mammals", "caption": "",
                "hit": hit, "chance": None if hit is None else float(hit),
                "hit_both": False if kind == "double" else None, "companion_hit": True if kind == "confound" else None,
            })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=RECOVERY)
