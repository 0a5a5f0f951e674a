"""Captions as CSV: a row per voxel with its place, regions and scores, and its caption by each method.

RFC 4180 in UTF-8: commas, lines end with CR LF, fields with commas, quotes or line breaks are quoted. Texts are kept as they are:
a program that takes fields that begin with = + - or @ for formulas must import the column as text (the README says so).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from scuba_ray.report.joined import CAPTION_COLUMNS, Key, keys
from scuba_ray.tables.schemas import WHOLE_BANK

if TYPE_CHECKING:
    from pathlib import Path

    from scuba_ray.report.export_maps import Exported
    from scuba_ray.tables.store import RunFolder

_PLACE = ("subject", "backbone", "voxel_id", "hemi", "vertex", "i", "j", "k")
LISTED = ";"
"""Between the regions of a voxel, as the layout `files` reads them."""


def write_captions(path: Path, run: RunFolder, subjects: Sequence[Exported]) -> None:
    """Write the captions of the whole bank, a column `caption_METHOD` for each method; concepts (rank 1 and on) are left out."""
    captions = run.read("captions", columns=list(CAPTION_COLUMNS))
    captions = captions.filter(pc.and_(pc.equal(captions["partition"], WHOLE_BANK), pc.equal(captions["rank"], 0)))
    said: dict[Key, dict[str, str]] = {}
    for key, method, caption in zip(keys(captions), captions["method"].to_pylist(), captions["caption"].to_pylist(), strict=True):
        said.setdefault(key, {})[method] = caption
    methods = list(dict.fromkeys(captions["method"].to_pylist()))
    maps = list(dict.fromkeys(name for one in subjects for name in one.values))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([*_PLACE, "x", "y", "z", "rois", *maps, *(f"caption_{method}" for method in methods)])
        for one in subjects:
            for row, (key, voxel) in enumerate(zip(keys(one.voxels), one.voxels.to_pylist(), strict=True)):
                place = [voxel[name] for name in _PLACE] + [_number(value) for value in voxel["xyz"] or [np.nan] * 3]
                numbers = [_number(one.values[name][row]) if name in one.values else None for name in maps]
                texts = [said.get(key, {}).get(method) for method in methods]
                writer.writerow([*place, LISTED.join(voxel["rois"] or ()), *numbers, *texts])


def _number(value: Any) -> str | None:
    """The shortest decimal that gives the same float32; nothing for NaN."""
    return None if np.isnan(value) else str(np.float32(value))
