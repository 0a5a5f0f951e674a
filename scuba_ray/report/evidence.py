"""What speaks for and against a voxel's captions, as columns for the page: scores beside controls, bands, nouns' support.

Columns are packed (`report.packed`): the page unpacks them when the first voxel is opened. For 40,000 voxels a method and judge
costs 107 kB, the captions of a control 213 kB, a banded fit 540 kB, and support about 6 bytes for each noun of a caption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.report.packed import base64_of, steps
from scuba_ray.report.payload import Texts
from scuba_ray.tables.schemas import WHOLE_BANK
from scuba_ray.tables.ways import CONTROLS

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

_BANDS = ("r2_joint", "unique_first", "shared", "unique_second", "p_unique_first")
_VERDICTS = {False: 0, True: 1, None: 2}


def evidence(run: RunFolder, one: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """Scores, bands and support of one set of `payload.voxel_sets`; empty where the run has no such table.

    Captions of controls are added to `texts`.
    """
    return {"judged": _judged(run, one, texts), "bands": _bands(run, one), "support": _support(run, one)}


def _own(run: RunFolder, table: str, columns: Sequence[str], one: Mapping[str, Any]) -> pa.Table | None:
    if not run.keys(table):
        return None
    rows = run.read(table, columns=["subject", "backbone", "voxel_id", *columns])
    return rows.filter(pc.and_(pc.equal(rows["subject"], one["subject"]), pc.equal(rows["backbone"], one["backbone"])))


def _judged(run: RunFolder, one: Mapping[str, Any], texts: Texts) -> list[dict[str, Any]]:
    """Held-out r of whole-bank captions, a column per judge and method: the best on average first, controls last.

    What a control said of each voxel stands with its first judge, as numbers of texts; methods' own captions are on the page.
    """
    rows = _own(run, "scores", ("partition", "method", "rank", "judge", "caption", "heldout_r"), one)
    if rows is None:
        return []
    rows = rows.filter(pc.and_(pc.equal(rows["partition"], WHOLE_BANK), pc.equal(rows["rank"], 0)))
    columns: dict[tuple[str, str], dict[int, float | None]] = defaultdict(dict)
    said: dict[str, dict[int, int]] = defaultdict(dict)
    names = ("judge", "method", "voxel_id", "caption", "heldout_r")
    for judge, method, voxel, caption, value in zip(*(rows[name].to_pylist() for name in names), strict=True):
        columns[judge, method][voxel] = value
        if method in CONTROLS:
            said[method][voxel] = texts.add(caption)
    means = {key: np.mean([value for value in own.values() if value is not None] or [-1]) for key, own in columns.items()}
    # the captioned backbone itself first: the others are named after their model
    judges = sorted({judge for judge, _ in columns}, key=lambda judge: (judge != "own", judge))
    order = sorted(columns, key=lambda key: (judges.index(key[0]), key[1] in CONTROLS, -means[key]))
    found: list[dict[str, Any]] = []
    for judge, method in order:
        entry = {"judge": judge, "method": method, "control": method in CONTROLS}
        entry["r"] = steps(columns[judge, method].get(voxel) for voxel in one["voxel"])
        if texts_of := said.pop(method, None):
            entry["said"] = base64_of(np.array([texts_of.get(voxel, -1) for voxel in one["voxel"]]), "<i4")
        found.append(entry)
    return found


def _bands(run: RunFolder, one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Variance partitioned between the image embedding and each second feature set."""
    rows = _own(run, "bands", ("bands", *_BANDS, "explained_by_low_level"), one)
    if rows is None:
        return []
    found = []
    for name in sorted(set(rows["bands"].to_pylist())):
        mine = {row["voxel_id"]: row for row in rows.filter(pc.equal(rows["bands"], name)).to_pylist()}
        columns = {column: steps(mine.get(voxel, {}).get(column) for voxel in one["voxel"]) for column in _BANDS}
        flags = [place for place, voxel in enumerate(one["voxel"]) if mine.get(voxel, {}).get("explained_by_low_level")]
        found.append({"name": name, **columns, "explained": flags})
    return found


def _support(run: RunFolder, one: Mapping[str, Any]) -> dict[str, Any] | None:
    """Nouns of each caption and whether a picture shows them: for each method and rank the number of nouns of every voxel, and
    these one after the other, each four times its number in `words` plus the verdict (0 none shows it, 1 one does, 2 not known).
    """
    rows = _own(run, "analyses/support", ("method", "rank", "noun", "supported"), one)
    if rows is None or not len(rows):
        return None
    words = sorted(set(rows["noun"].to_pylist()))
    number = {word: place for place, word in enumerate(words)}
    by_caption: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    names = ("method", "rank", "voxel_id", "noun", "supported")
    for method, rank, voxel, noun, supported in zip(*(rows[name].to_pylist() for name in names), strict=True):
        by_caption[method, rank][voxel].append(4 * number[noun] + _VERDICTS[supported])
    captions = []
    for (method, rank), own in sorted(by_caption.items()):
        counts = np.array([len(own.get(voxel, ())) for voxel in one["voxel"]])
        nouns = np.array([noun for voxel in one["voxel"] for noun in own.get(voxel, ())])
        captions.append({"method": method, "rank": rank, "counts": base64_of(counts, "u1"), "nouns": base64_of(nouns, "<u4")})
    return {"words": words, "captions": captions}
