"""Tables of a run as the analyses of captions read them, and what was planted: the phantom's tuning, in drawings' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.phantom import seeds
from scuba_ray.phantom.concepts import ROIS, load_vocabulary, words
from scuba_ray.phantom.cortex import grow_patches
from scuba_ray.phantom.subject import ROI_SHARES, VoxelTruth, choose_pairs, split_evenly, tune

PARTITIONS = (-1, 0, 1, 2, 3, 4)
CAPTION_TYPES = pa.schema([("partition", pa.int32()), ("rank", pa.int32())])


def truths(voxels: int = 600, seed: int = 0) -> list[VoxelTruth]:
    """A phantom's voxels, region by region."""
    generator = seeds.generator(seeds.SUBJECT, seed)
    vocabulary = load_vocabulary()
    return tune(generator, grow_patches(split_evenly(voxels, ROI_SHARES)), vocabulary, choose_pairs(generator, vocabulary))


def planted_tables(voxels: int = 600, seed: int = 0, told: float = 0.6) -> tuple[dict[str, pa.Table], list[VoxelTruth]]:
    """Captions that name a drawing of the voxel's concept with probability `told`, and always one of any concept beside it."""
    rng = np.random.default_rng(seed)
    drawings = {concept.name: concept.drawings for concept in load_vocabulary().concepts}
    everything = [name for names in drawings.values() for name in names]
    planted = truths(voxels, seed)
    captions, rows = [], []
    for voxel, truth in enumerate(planted):
        known = truth.voxel_class not in ("nuisance", "null")
        rows.append(voxel_row(voxel, [truth.roi], q=0.001 if known else 0.5, noise_ceiling=truth.noise_ceiling))
        for partition in PARTITIONS:
            own = drawings[truth.concepts[rng.integers(len(truth.concepts))]] if known else everything
            said = [rng.choice(own if rng.random() < told else everything), rng.choice(everything)]
            captions.append(caption_row(voxel, " and ".join(said) + ".", partition=partition))
    return tables(captions, rows), planted


def voxel_row(voxel: int, rois: Sequence[str] | None, *, q: float | None = 0.001, **more: Any) -> dict[str, Any]:
    return {"subject": "s", "backbone": "b", "voxel_id": voxel, "rois": rois, "q": q, **more}


def caption_row(voxel: int, caption: str, *, partition: int = -1, subject: str = "s") -> dict[str, Any]:
    key = {"subject": subject, "backbone": "b", "voxel_id": voxel, "partition": partition}
    return {**key, "method": "brainscuba", "rank": 0, "caption": caption}


def tables(captions: list[dict[str, Any]], voxels: list[dict[str, Any]]) -> dict[str, pa.Table]:
    """Rows as tables, with the types that columns of nulls lack."""
    table = pa.Table.from_pylist(voxels)
    types = {"rois": pa.list_(pa.string()), "q": pa.float32()}
    schema = pa.schema([(field.name, types.get(field.name, field.type)) for field in table.schema])
    return {"captions": pa.Table.from_pylist(captions), "voxels": table.cast(schema)}


@lru_cache(maxsize=1)
def accepted() -> dict[str, set[str]]:
    """Nouns of each region, generated: words that a larger share of its drawings has than of all drawings."""
    vocabulary = load_vocabulary()
    names = {roi: [name for one in vocabulary.concepts if one.roi == roi for name in one.drawings] for roi in ROIS}
    everything = [*(name for own in names.values() for name in own), *vocabulary.others]
    rate = {word: count / len(everything) for word, count in _counts(everything).items()}
    return {roi: {word for word, count in _counts(own).items() if count / len(own) > rate[word]} for roi, own in names.items()}


def belongs(noun: str, roi: str) -> bool:
    """Whether a noun (or a part of it: crossed-out) is one of a region's."""
    return any(word in accepted()[roi] for word in words(noun))


def _counts(names: Sequence[str]) -> Counter[str]:
    return Counter(word for name in names for word in set(words(name)))
