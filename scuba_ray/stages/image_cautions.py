"""What a reader of pictures should know, in sentences: of what none were made, and what was done to those that were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pyarrow.compute as pc

from scuba_ray.config import DiffusionConfig
from scuba_ray.tables.store import RunFolder

NAMED = 5
"""Targets that a sentence names."""


def of_requests(run: RunFolder, key: str, *, significant: bool) -> Iterator[str]:
    """Which targets of a finished unit of `requests` have no pictures and why; and whether their voxels are known to count."""
    quarantine = run.quarantine()
    rows = quarantine.filter(pc.and_(pc.equal(quarantine["step"], "requests"), pc.equal(quarantine["unit"], key)))
    lacking: dict[str, list[str]] = defaultdict(list)
    for row in rows.to_pylist():
        lacking[row["reason"]].append(row["key"])
    for reason, targets in lacking.items():
        more = f" and {len(targets) - NAMED} more" if len(targets) > NAMED else ""
        yield f"synthesize {key}: no images of {'; '.join(targets[:NAMED])}{more}: {reason}"
    planned = run.rows("requests", key)
    if not planned:
        yield f"synthesize {key}: there is nothing to make images of, so none are made"
    voxels = run.read("voxels", key=key, columns=["q"])
    if planned and significant and voxels["q"].null_count == len(voxels):
        yield f"synthesize {key}: q is not known, so every fitted voxel stands for its targets"


def of_syntheses(run: RunFolder, key: str, wanted: int, diffusion: DiffusionConfig) -> Iterator[str]:
    """Cautions about the pictures of a finished unit of `syntheses`, of which `wanted` were planned."""
    rows = run.read("syntheses", key=key, columns=["prompt", "batch", "truncated"])
    if len(rows) < wanted:
        yield f"synthesize {key}: {wanted - len(rows)} of {wanted} images could not be made (folder quarantine has the reasons)"
    smallest = pc.min(rows["batch"]).as_py()
    if smallest < diffusion.batch:
        # images are kept when `batch` changes, so a small one need not be this run's
        yield (
            f"synthesize {key}: batches went down to {smallest} images: memory was too small for {diffusion.batch} together "
            f"(synthesize.diffusion.batch: {smallest} then spares the attempts), or that setting was smaller when they were made"
        )
    cut = sorted(set(rows.filter(rows["truncated"])["prompt"].to_pylist()))
    if cut:
        of = f"{len(cut)} of {len(pc.unique(rows['prompt']))} prompts"
        yield f"synthesize {key}: {of} are longer than the model reads, and their ends were left out; the first: {cut[0]!r}"
