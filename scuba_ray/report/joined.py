"""A run's voxels with the caption each one is known by: the rows behind the terminal tables and the page.

The caption shown for a voxel is that of rank 0 for the whole bank (partition -1); higher ranks are its concepts, one by one.
Where captions were made by several methods it is the first method in the table; the others are kept beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.errors import DataError
from scuba_ray.tables.schemas import WHOLE_BANK

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

Key = tuple[str, str, int]
"""Subject, backbone, voxel_id."""

VOXEL_COLUMNS = (
    "subject", "backbone", "voxel_id", "hemi", "vertex", "i", "j", "k", "xyz", "rois", "alpha", "alpha_at_edge", "r2", "r",
    "noise_ceiling", "r2_normalised", "p", "q", "split_half", "status", "bad_trials",
)  # fmt: skip
"""Everything about a voxel but its weights."""
CAPTION_COLUMNS = ("subject", "backbone", "voxel_id", "partition", "method", "rank", "caption", "logprob", "share")
PROJECTION_COLUMNS = (
    "subject", "backbone", "voxel_id", "partition", "cos_before_after", "n_eff", "bank_agreement", "nearest_ids", "nearest_cos",
    "missing_mass",
)  # fmt: skip


def voxel_rows(run: RunFolder, columns: Sequence[str] = VOXEL_COLUMNS) -> pa.Table:
    """Read the captioned voxels of every subject, with the column `caption` added (null where one has none).

    Raises
    ------
    DataError
        If the run has no finished captions.
    """
    best = headline(run.read("captions", columns=list(CAPTION_COLUMNS)))
    if not captioned(run):
        raise DataError(
            f"{run.location} holds captions, but not the voxels they are of; run the configuration again to resume it"
        )
    voxels = pa.concat_tables([run.read("voxels", key=key, columns=list(columns)) for key in captioned(run)])
    captions = [best.get(key) for key in keys(voxels)]
    return voxels.append_column("caption", pa.array(captions, pa.string()))


def captioned(run: RunFolder) -> list[str]:
    """Keys (subject/backbone) of the voxels that have captions; captions of further methods are units below these."""
    return sorted(set(run.keys("captions")) & set(run.keys("voxels")))


def keys(table: pa.Table) -> list[Key]:
    """The (subject, backbone, voxel_id) of each row."""
    columns = (table[name].to_pylist() for name in ("subject", "backbone", "voxel_id"))
    return list(zip(*columns, strict=True))


def headline(captions: pa.Table) -> dict[Key, str]:
    """The caption each voxel is known by, from a captions table."""
    whole = captions.filter(pc.and_(pc.equal(captions["partition"], WHOLE_BANK), pc.equal(captions["rank"], 0)))
    found: dict[Key, str] = {}
    for key, caption in zip(keys(whole), whole["caption"].to_pylist(), strict=True):
        found.setdefault(key, caption)
    return found
