"""What the voxels of each subject say and which of them count: where the analyses of captions start from.

Counted are voxels whose response is predicted better than by chance (q < `SIGNIFICANT`). Weights that were fitted elsewhere, and
fits without permutations, have no q: all captioned voxels count then, and `selection`, which every table repeats, says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.tables.schemas import SIGNIFICANT, WHOLE_BANK
from scuba_ray.tables.ways import METHOD

ALL = "all voxels"
"""Stands for a region that every voxel that counts belongs to."""
CAPTIONS = ("subject", "backbone", "voxel_id", "partition", "method", "rank", "caption")
VOXELS = ("subject", "backbone", "voxel_id", "rois", "q")


@dataclass(frozen=True)
class Spoken:
    """The captioned voxels of a subject under a backbone that count."""

    subject: str
    backbone: str
    voxel_ids: tuple[int, ...]
    rois: tuple[str, ...]
    """All regions the subject has, by name; those without a voxel that counts too."""
    member_RV: npt.NDArray[np.bool_]
    """Whether a voxel belongs to a region, (R, V); it may belong to several or none."""
    captions: tuple[Mapping[int, str], ...]
    """BrainSCUBA's captions of each voxel by partition; that of the whole bank is there for every voxel."""
    selection: str
    """Which voxels count, in words."""

    @property
    def key(self) -> dict[str, Any]:
        """Columns that every row of a table has."""
        return {"subject": self.subject, "backbone": self.backbone, "selection": self.selection}

    def shuffled(self, seed: int) -> npt.NDArray[np.bool_]:
        """Membership with voxels permuted over regions: region sizes and their overlap stay."""
        return self.member_RV[:, np.random.default_rng(seed).permutation(len(self.voxel_ids))]

    def note(self, voxels: int, what: str) -> str | None:
        """What a reader must know of a region with so few voxels; None for the others."""
        if not self.voxel_ids:
            return f"no captioned voxel counts ({self.selection})"
        if not voxels:
            return f"no voxel of this region counts ({self.selection})"
        return f"one voxel: {what}" if voxels == 1 else None

    def members(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """All voxels together, then each region, with the voxels that belong to it, (V,)."""
        yield ALL, np.ones(len(self.voxel_ids), bool)
        yield from zip(self.rois, self.member_RV, strict=True)


def spoken(tables: Mapping[str, pa.Table]) -> list[Spoken]:
    """Every captioned subject and backbone.

    Parameters
    ----------
    tables : mapping
        `captions` with the columns `CAPTIONS` and `voxels` with the columns `VOXELS`.
    """
    captions = tables["captions"]
    captions = captions.filter(pc.and_(pc.equal(captions["method"], METHOD), pc.equal(captions["rank"], 0)))
    said: dict[tuple[str, str], dict[int, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    columns = (captions[name].to_pylist() for name in ("subject", "backbone", "voxel_id", "partition", "caption"))
    for subject, backbone, voxel, partition, caption in zip(*columns, strict=True):
        said[subject, backbone][voxel][partition] = caption
    return [_spoken(tables["voxels"], *key, by_voxel) for key, by_voxel in sorted(said.items())]


def _spoken(voxels: pa.Table, subject: str, backbone: str, said: Mapping[int, Mapping[int, str]]) -> Spoken:
    own = voxels.filter(pc.and_(pc.equal(voxels["subject"], subject), pc.equal(voxels["backbone"], backbone)))
    known = own["q"].null_count < len(own)
    rows = zip(*(own[name].to_pylist() for name in ("voxel_id", "rois", "q")), strict=True)
    kept = [
        (voxel, rois or [])
        for voxel, rois, q in rows
        if WHOLE_BANK in said.get(voxel, {}) and (not known or (q is not None and q < SIGNIFICANT))
    ]
    regions = sorted({roi for names in own["rois"].to_pylist() for roi in names or ()})
    member_RV = np.array([[roi in rois for _, rois in kept] for roi in regions], bool).reshape(len(regions), len(kept))
    return Spoken(
        subject=subject,
        backbone=backbone,
        voxel_ids=tuple(voxel for voxel, _ in kept),
        rois=tuple(regions),
        member_RV=member_RV,
        captions=tuple(said[voxel] for voxel, _ in kept),
        selection=f"voxels with q < {SIGNIFICANT}" if known else "all captioned voxels, as no q is known",
    )


def agreed(by_partition: Mapping[int, Sequence[str]], agreeing: int) -> set[str]:
    """Terms that the captions of at least `agreeing` partitions have; of the whole bank's caption if that is 0.

    Where a voxel has captions of fewer partitions (a bank may fill one only), all of them must agree.
    """
    parts = [terms for partition, terms in by_partition.items() if partition != WHOLE_BANK]
    if not agreeing or not parts:
        return set(by_partition[WHOLE_BANK])
    counts = Counter(chain.from_iterable(set(terms) for terms in parts))
    return {term for term, count in counts.items() if count >= min(agreeing, len(parts))}
