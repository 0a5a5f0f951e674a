"""The captions of one subject's voxels, of all methods, and the controls they are held against.

A control gives each voxel a caption that was not made for it; it is a method like the others, for the whole bank, at rank 0:

    shuffled             the caption of another voxel, drawn at random
    shuffled-within-roi  the caption of another voxel of the same regions: what knowing the region alone is worth
    most-frequent        the caption that most voxels have
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.core.shuffles import random_cycles
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD, MOST_FREQUENT, SHUFFLED, WITHIN_ROI

_COLUMNS = ("voxel_id", "partition", "method", "rank", "caption")


def said(run: RunFolder, keys: Sequence[str]) -> pa.Table:
    """Captions of some units of the table `captions`: voxel_id, partition, method, rank, caption."""
    return pa.concat_tables([run.read("captions", key=key, columns=_COLUMNS) for key in keys])


def headline(captions: pa.Table) -> pa.Table:
    """The rows of BrainSCUBA's own captions for the whole bank: one per captioned voxel, by voxel_id."""
    own = pc.and_(pc.equal(captions["method"], METHOD), pc.equal(captions["partition"], WHOLE_BANK))
    return captions.filter(pc.and_(own, pc.equal(captions["rank"], 0))).sort_by("voxel_id")


def controls(captions: pa.Table, rois: Sequence[Sequence[str]], seed: int) -> pa.Table:
    """Rows of the controls.

    Parameters
    ----------
    captions : pa.Table
        From `headline`.
    rois : sequence
        The regions of each of its voxels.
    seed : int
        Of the draws.

    Returns
    -------
    pa.Table
        Columns as `said` has them. A voxel alone in its regions has no row of `shuffled-within-roi`, one alone none of
        `shuffled`.
    """
    texts = captions["caption"].to_pylist()
    counts = Counter(texts)
    favourite = min(counts, key=lambda text: (-counts[text], text), default="")
    regions: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, names in enumerate(rois):
        regions[tuple(sorted(names))].append(index)
    generator = np.random.default_rng(seed)
    anywhere = random_cycles(generator, [range(len(texts))], len(texts))
    within = random_cycles(generator, list(regions.values()), len(texts))
    voxels = captions["voxel_id"].to_pylist()
    rows = [(voxels[i], SHUFFLED, texts[j]) for i, j in enumerate(anywhere) if i != j]
    rows += [(voxels[i], WITHIN_ROI, texts[j]) for i, j in enumerate(within) if i != j]
    rows += [(voxel, MOST_FREQUENT, favourite) for voxel in voxels]
    columns = {
        "voxel_id": [row[0] for row in rows],
        "partition": [WHOLE_BANK] * len(rows),
        "method": [row[1] for row in rows],
        "rank": [0] * len(rows),
        "caption": [row[2] for row in rows],
    }
    return pa.table(columns, schema=captions.schema)


def caption_prompt(caption: str) -> str:
    """The prompt of a voxel's pictures: its caption without the full stop; empty if it says nothing."""
    return caption.strip().removesuffix(".").rstrip() if caption.strip(" .") else ""
