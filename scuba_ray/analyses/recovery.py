"""recovery: does a voxel's caption name what was planted in the voxel? Phantoms only, since only they know.

The captions are those of the whole bank. Controls are rows of the same form under another `method`: a control gives each voxel

    shuffled             the caption of another voxel, drawn at random
    shuffled-within-roi  the caption of another voxel of its region: what knowing the region alone is worth
    most-frequent        the caption that most voxels have

`hit` says whether the caption in that row names the concept: for single and confound voxels the one planted, for double voxels
either (`hit_both`: both), for broad voxels any of their region; null where nothing was planted. `chance` is the probability of a
hit: 0 or 1 where the caption is given, and for a shuffled one the share of all the captions it may be drawn from, so that the
controls' rates carry no noise of the draw. A caption may name several things: `precision` is the share of the concepts it names
that were planted, null where it names none.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.recovery_summary import METHODS
from scuba_ray.config import RunConfig, SubjectConfig
from scuba_ray.core.shuffles import random_cycles
from scuba_ray.errors import ConfigError
from scuba_ray.phantom.concepts import Vocabulary
from scuba_ray.phantom.truth import TRUTH_FILES, has_truth, read_truth
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.ways import METHOD, MOST_FREQUENT, SHUFFLED, WITHIN_ROI

RECOVERY = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        ("method", pa.string()),
        ("voxel_class", pa.string()),
        ("roi", pa.string()),
        ("concept", pa.string()),
        ("concepts", pa.list_(pa.string())),
        ("companion", pa.string()),
        ("noise_ceiling", pa.float32()),
        ("true_ceiling", pa.float32()),
        ("caption", pa.string()),
        ("named", pa.list_(pa.string())),
        ("hit", pa.bool_()),
        ("chance", pa.float32()),
        ("precision", pa.float32()),
        ("hit_both", pa.bool_()),
        ("hit_both_concepts", pa.bool_()),
        ("companion_hit", pa.bool_()),
    ]
)
"""`concept` is for reading: the planted concepts joined by `+`, a broad voxel's region, null where nothing was planted.
`noise_ceiling` is the estimate of the table `voxels`, `true_ceiling` the planted one. `named` is all that the caption names.
`hit_both_concepts` asks the same of the captions per concept (ranks above 0) together; null where a run writes none."""


@dataclass(frozen=True)
class _Voxel:
    """A captioned voxel: its truth, its estimated ceiling and what its caption names."""

    truth: Mapping[str, Any]
    noise_ceiling: float | None
    caption: str
    concepts_said: tuple[str, ...] = ()
    """Its captions per concept, where the run writes them."""


class Recovery:
    """The recovery analysis of all phantoms among a run's subjects.

    Raises
    ------
    ConfigError
        If no subject of the configuration has a truth.
    """

    name = "recovery"
    version = 2
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "captions": ("subject", "backbone", "voxel_id", "partition", "method", "rank", "caption"),
        "voxels": ("subject", "backbone", "voxel_id", "noise_ceiling"),
    }

    def __init__(self, config: RunConfig) -> None:
        if why := self.lacking(config):
            raise ConfigError(f"analyses: recovery {why}; leave it out of analyses")
        self._seed = config.seed
        self._subjects = _phantoms(config)

    @staticmethod
    def lacking(config: RunConfig) -> str | None:
        """It takes a truth."""
        names = ", ".join(subject.name for subject in config.subjects)
        return None if _phantoms(config) else f"needs a phantom, and none of {names} has a truth.parquet"

    def fingerprint(self) -> Mapping[str, Any]:
        """The seed of the draws and what was planted."""
        return {"seed": self._seed, "truth": {subject.name: _truth_digest(subject) for subject in self._subjects}}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per captioned voxel and method; see `RECOVERY`."""
        captions = tables["captions"]
        whole = pc.and_(pc.equal(captions["partition"], WHOLE_BANK), pc.equal(captions["method"], METHOD))
        captions = captions.filter(whole)
        rows: list[dict[str, Any]] = []
        for subject in self._subjects:
            own = captions.filter(pc.equal(captions["subject"], subject.name))
            truth, vocabulary = read_truth(_folder(subject))
            for backbone in sorted(set(own["backbone"].to_pylist())):
                voxels = _voxels(truth, own, tables["voxels"], subject.name, backbone)
                key = {"subject": subject.name, "backbone": backbone}
                rows += [{**key, **row} for row in judge(voxels, vocabulary, self._seed)]
        return pa.Table.from_pylist(rows, schema=RECOVERY)


def _phantoms(config: RunConfig) -> list[SubjectConfig]:
    return [subject for subject in config.subjects if subject.path and has_truth(subject.path)]


def _voxels(truth: pa.Table, captions: pa.Table, voxels: pa.Table, subject: str, backbone: str) -> list[_Voxel]:
    """The captioned voxels of one subject under one backbone, in the order of the truth."""
    said = captions.filter(pc.equal(captions["backbone"], backbone))
    caption_of: dict[int, str] = {}
    concepts_of: dict[int, list[str]] = defaultdict(list)
    for voxel, rank, caption in zip(*(said[name].to_pylist() for name in ("voxel_id", "rank", "caption")), strict=True):
        if rank == 0:
            caption_of[voxel] = caption
        else:
            concepts_of[voxel].append(caption)
    fitted = voxels.filter(pc.and_(pc.equal(voxels["subject"], subject), pc.equal(voxels["backbone"], backbone)))
    ceiling_of = dict(zip(fitted["voxel_id"].to_pylist(), fitted["noise_ceiling"].to_pylist(), strict=True))
    return [
        _Voxel(row, ceiling_of.get(row["voxel_id"]), caption_of[row["voxel_id"]], tuple(concepts_of[row["voxel_id"]]))
        for row in truth.to_pylist()
        if row["voxel_id"] in caption_of
    ]


def judge(voxels: Sequence[_Voxel], vocabulary: Vocabulary, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of all methods for voxels that share a pool of captions."""
    named_by = {voxel.caption: frozenset(vocabulary.named(voxel.caption)) for voxel in voxels}
    counts = Counter(voxel.caption for voxel in voxels)
    favourite = min(counts, key=lambda caption: (-counts[caption], caption), default="")
    regions: dict[str, list[int]] = defaultdict(list)
    for index, voxel in enumerate(voxels):
        regions[voxel.truth["roi"]].append(index)
    generator = np.random.default_rng(seed)
    pools = {SHUFFLED: [list(range(len(voxels)))], WITHIN_ROI: list(regions.values())}
    others = {method: random_cycles(generator, parts, len(voxels)) for method, parts in pools.items()}
    chances = {method: _chances(voxels, named_by, parts) for method, parts in pools.items()}
    for index, voxel in enumerate(voxels):
        for method in METHODS:
            caption = favourite if method == MOST_FREQUENT else voxel.caption
            if method in others:
                caption = voxels[others[method][index]].caption
            row = _row(voxel, method, caption, named_by[caption])
            if method == METHOD and row["hit_both"] is not None and voxel.concepts_said:
                together = set().union(*(vocabulary.named(said) for said in voxel.concepts_said))
                row["hit_both_concepts"] = set(voxel.truth["concepts"]) <= together
            chance = chances[method][index] if method in chances else row["hit"]
            yield {**row, "chance": None if row["hit"] is None else float(chance)}


def _row(voxel: _Voxel, method: str, caption: str, named: frozenset[str]) -> dict[str, Any]:
    truth, concepts = voxel.truth, set(voxel.truth["concepts"])
    kind = truth["voxel_class"]
    return {
        "voxel_id": truth["voxel_id"],
        "method": method,
        "voxel_class": kind,
        "roi": truth["roi"],
        "concept": truth["roi"] if kind == "broad" else " + ".join(truth["concepts"]) or None,
        "concepts": truth["concepts"],
        "companion": truth["companion"],
        "noise_ceiling": voxel.noise_ceiling,
        "true_ceiling": truth["noise_ceiling"],
        "caption": caption,
        "named": sorted(named),
        "hit": bool(concepts & named) if concepts else None,
        "precision": len(concepts & named) / len(named) if concepts and named else None,
        "hit_both": concepts <= named if kind == "double" else None,
        "companion_hit": truth["companion"] in named if truth["companion"] else None,
    }


def _chances(voxels: Sequence[_Voxel], named_by: Mapping[str, frozenset[str]], parts: Sequence[Sequence[int]]) -> np.ndarray:
    """For each voxel the share of the *other* voxels of its part whose caption names what was planted in it."""
    chance = np.zeros(len(voxels))
    for part in parts:
        rates: dict[frozenset[str], int] = {}
        for index in part:
            concepts = frozenset(voxels[index].truth["concepts"])
            if concepts not in rates:
                rates[concepts] = sum(bool(concepts & named_by[voxels[other].caption]) for other in part)
            own = bool(concepts & named_by[voxels[index].caption])
            chance[index] = (rates[concepts] - own) / max(len(part) - 1, 1)
    return chance


def _truth_digest(subject: SubjectConfig) -> str:
    folder = _folder(subject)
    digest = hashlib.sha256()
    for name in TRUTH_FILES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _folder(subject: SubjectConfig) -> Path:
    assert subject.path is not None, "a subject with a truth has a data set"
    return Path(subject.path).expanduser()
