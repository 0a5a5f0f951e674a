"""A run's voxels as JSON columns for the page: one set per subject and backbone, texts and picture names written once.

Numbers keep four significant digits; a missing one is null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.report.joined import keys
from scuba_ray.tables.schemas import WHOLE_BANK

NEAREST = 6
"""Nearest bank images listed for a voxel."""
SCORES = ("r2", "r", "noise_ceiling", "r2_normalised", "p", "q", "split_half", "alpha", "bad_trials")
_PROJECTION = ("n_eff", "cos_before_after")


@dataclass
class Texts:
    """Each text once; columns hold its number. -1 stands for no text."""

    all: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def add(self, text: str | None) -> int:
        """The number of `text`, which is kept if it is new."""
        if text is None:
            return -1
        place = self._places.setdefault(text, len(self.all))
        if place == len(self.all):
            self.all.append(text)
        return place


def voxel_sets(
    voxels: pa.Table, captions: pa.Table, projections: pa.Table, *, regions: Mapping[str, int], texts: Texts, images: Texts
) -> list[dict[str, Any]]:
    """One mapping per subject and backbone, in the order they come in `voxels`.

    Parameters
    ----------
    voxels, captions, projections : pa.Table
        As `joined.voxel_rows` and the run folder give them.
    regions : mapping
        Region name to its number.
    texts, images : Texts
        Where captions and names of bank images are gathered.
    """
    sets = []
    for subject, backbone in dict.fromkeys((subject, backbone) for subject, backbone, _ in keys(voxels)):
        mine, said, seen = (_part(table, subject, backbone) for table in (voxels, captions, projections))
        ids = mine["voxel_id"].to_pylist()
        rows = {voxel: row for row, voxel in enumerate(ids)}
        sets.append(
            {
                "subject": subject,
                "backbone": backbone,
                "voxel": ids,
                "hemi": mine["hemi"].to_pylist(),
                "vertex": mine["vertex"].to_pylist(),
                "ijk": _places(mine),
                "rois": [[regions[name] for name in names or ()] for names in mine["rois"].to_pylist()],
                "status": mine["status"].to_pylist(),
                "caption": [texts.add(caption) for caption in mine["caption"].to_pylist()],
                "scores": {name: rounded(mine[name].to_pylist()) for name in SCORES},
                "captions": _captions(said, rows, texts),
                **_projections(seen, rows, images),
            }
        )
    return sets


def rounded(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    """Numbers to so many significant digits; null for what is missing, NaN or infinite."""
    return [float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None for value in values]


def _part(table: pa.Table, subject: str, backbone: str) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["subject"], subject), pc.equal(table["backbone"], backbone)))


def _places(voxels: pa.Table) -> list[list[int] | None] | None:
    """i, j, k of volume voxels; null where the set has none."""
    columns = [voxels[name].to_pylist() for name in ("i", "j", "k")]
    places = [None if None in place else list(place) for place in zip(*columns, strict=True)]
    return places if any(places) else None


def _captions(captions: pa.Table, rows: Mapping[int, int], texts: Texts) -> list[dict[str, Any]]:
    """For each method, rank and partition, the number of every voxel's caption; the whole bank (partition -1) comes first.

    Captions of ranks above 0 are a voxel's concepts: a method of their own, with each one's share of the mass.
    """
    columns: dict[tuple[str, int, int], tuple[list[int], list[float | None]]] = {}
    fields = (captions[name].to_pylist() for name in ("method", "rank", "partition", "voxel_id", "caption", "share"))
    for method, rank, partition, voxel, caption, share in zip(*fields, strict=True):
        key = (f"{method}, per concept" if rank else method, rank, partition)
        text, shares = columns.setdefault(key, ([-1] * len(rows), [None] * len(rows)))
        text[rows[voxel]], shares[rows[voxel]] = texts.add(caption), share
    methods = list(dict.fromkeys(method for method, _, _ in columns))
    ordered = sorted(columns, key=lambda key: (methods.index(key[0]), *key[1:]))
    return [
        {"method": method, "partition": partition, "rank": rank, "text": columns[method, rank, partition][0]}
        | ({"share": rounded(columns[method, rank, partition][1])} if rank else {})
        for method, rank, partition in ordered
    ]


def _projections(projections: pa.Table, rows: Mapping[int, int], images: Texts) -> dict[str, Any]:
    """What was averaged: numbers per partition, agreement of the partitions, and the nearest images in the whole bank."""
    parts = []
    for partition in sorted(set(projections["partition"].to_pylist())):
        part = projections.filter(pc.equal(projections["partition"], partition))
        parts.append({"partition": partition, **{name: _by_row(part, name, rows) for name in _PROJECTION}})
    whole = projections.filter(pc.equal(projections["partition"], WHOLE_BANK))
    nearest, cosines = [-1] * (NEAREST * len(rows)), [0.0] * (NEAREST * len(rows))
    lists = (pc.list_slice(whole[name], 0, NEAREST).to_pylist() for name in ("nearest_ids", "nearest_cos"))
    for voxel, names, values in zip(whole["voxel_id"].to_pylist(), *lists, strict=True):
        for place, (image, cosine) in enumerate(zip(names or (), values or (), strict=True), NEAREST * rows[voxel]):
            nearest[place], cosines[place] = images.add(image), round(cosine, 3)
    agreement = _by_row(whole, "bank_agreement", rows)
    return {"projections": parts, "bank_agreement": agreement, "nearest": nearest, "nearest_cos": cosines}


def _by_row(table: pa.Table, name: str, rows: Mapping[int, int]) -> list[float | None]:
    """A column in the order of the voxels; null where the table has no row for one."""
    column: list[float | None] = [None] * len(rows)
    for voxel, value in zip(table["voxel_id"].to_pylist(), rounded(table[name].to_pylist()), strict=True):
        column[rows[voxel]] = value
    return column
