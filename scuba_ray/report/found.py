"""Maps of what a run's analyses found, voxel by voxel, for the page to colour by: only those of analyses that the run has.

`kind` says how a map is drawn. Without one it is a scale, as in `summary.maps`. `parts` are the parts of one region, `rgb` the
embedding map's own colours, and `noun` the voxels whose caption names a noun that the reader chooses.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.embedding_map import COLOURS
from scuba_ray.report.joined import Key, keys
from scuba_ray.report.packed import base64_of
from scuba_ray.report.payload import rounded
from scuba_ray.tables.schemas import WHOLE_BANK

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

EDGE = 0.1
"""Share of the voxels that stand for an end of a component, when words are sought for it."""
WORDS = 3
"""Words for an end of a component at most; a part has `PART_WORDS`."""
PART_WORDS = 5
_MEASURES: dict[str, dict[str, Any]] = {
    "half_agreement": {
        "label": "Agreement of the bank's halves", "unit": "cosine of the projections on two halves", "palette": "viridis",
    },
    "caption_agreement": {
        "label": "Caption agreement", "unit": "share of nouns that captions of two partitions have in common",
        "palette": "viridis", "low": 0, "high": 1,
    },
}  # fmt: skip
"""Measures of the analysis `selectivity` that the voxels' own tables lack."""


def nouns_of(run: RunFolder) -> dict[Key, list[str]]:
    """The nouns of the caption each voxel is known by (see `joined.headline`)."""
    columns = ["subject", "backbone", "voxel_id", "partition", "method", "rank", "nouns"]
    captions = run.read("captions", columns=columns)
    whole = captions.filter(pc.and_(pc.equal(captions["partition"], WHOLE_BANK), pc.equal(captions["rank"], 0)))
    found: dict[Key, list[str]] = {}
    for key, nouns in zip(keys(whole), whole["nouns"].to_pylist(), strict=True):
        found.setdefault(key, nouns or [])
    return found


def maps(run: RunFolder, one: Mapping[str, Any], named: Mapping[Key, Sequence[str]]) -> list[dict[str, Any]]:
    """The maps of one set of `payload.voxel_sets`, in the order of the menu.

    Parameters
    ----------
    named : mapping
        As `nouns_of` gives them.
    """
    nouns = [named.get((one["subject"], one["backbone"], voxel), ()) for voxel in one["voxel"]]
    return [
        *_scales(_own(run, "person", one), _own(run, "selectivity", one), one),
        *_embedding(_own(run, "embedding_map", one), one, nouns),
        *_noun(one, nouns),
        *_parts(_own(run, "clusters", one), one),
    ]


def _own(run: RunFolder, analysis: str, one: Mapping[str, Any]) -> pa.Table | None:
    """What an analysis says of a set; none where the run has no such analysis, or it says nothing of the set."""
    name = f"analyses/{analysis}"
    if not run.keys(name):
        return None
    table = run.read(name)
    own = table.filter(pc.and_(pc.equal(table["subject"], one["subject"]), pc.equal(table["backbone"], one["backbone"])))
    return own if len(own) else None


def _scales(person: pa.Table | None, selectivity: pa.Table | None, one: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if person is not None:
        entry = {"key": "person", "label": "Person share", "unit": "share of a voxel's captions that name people"}
        values = _by_voxel(person.filter(pc.equal(person["level"], "voxel")), "person_share", one)
        found.append({**entry, "palette": "cividis", "low": 0, "high": 1, "values": values, "counted": _selection(person)})
    if selectivity is None:
        return found
    for measure, about in _MEASURES.items():
        mine = selectivity.filter(pc.and_(pc.equal(selectivity["level"], "voxel"), pc.equal(selectivity["measure"], measure)))
        values = _by_voxel(mine, "value", one)
        known = [value for value in values if value is not None]
        if known:
            low, high = rounded(np.percentile(known, [2, 98]).tolist())
            ends = {"low": low, "high": high if high != low else max(known) + 1e-3}
            found.append({"key": measure, **ends, **about, "values": values, "counted": _selection(selectivity)})
    return found


def _selection(table: pa.Table) -> str | None:
    """Which voxels the analysis counts, in words; rows of voxels do not repeat it in every table."""
    known = table["selection"].drop_null()
    return known[0].as_py() if len(known) else None


def _by_voxel(table: pa.Table, name: str, one: Mapping[str, Any]) -> list[float | None]:
    """A column in the order of the set's voxels; null where the table has no row for one."""
    known = dict(zip(table["voxel_id"].to_pylist(), rounded(table[name].to_pylist(), 3), strict=True))
    return [known.get(voxel) for voxel in one["voxel"]]


def _embedding(table: pa.Table | None, one: Mapping[str, Any], nouns: Sequence[Iterable[str]]) -> list[dict[str, Any]]:
    if table is None or not table["voxel_id"].drop_null().length():
        return []
    place = {voxel: row for row, voxel in enumerate(one["voxel"])}
    rows_N = np.array([place[voxel] for voxel in table["voxel_id"].to_pylist()])
    colour_N3 = np.stack([table[name].to_numpy() for name in COLOURS], 1)
    bytes_V4 = np.zeros((len(place), 4))
    bytes_V4[rows_N, :3] = np.round(255 * colour_N3)
    bytes_V4[rows_N, 3] = 1
    said = [nouns[row] for row in rows_N.tolist()]
    first = table.slice(0, 1).to_pylist()[0]
    how = {name: first[name] for name in ("method", "fitted_on")} | {"explained": rounded([first["explained"]])[0]}
    ends = [[_typical(said, np.argsort(sign * colour_N3[:, place], kind="stable")) for sign in (1, -1)] for place in range(3)]
    entry = {"key": "embedding", "kind": "rgb", "label": "Embedding map", "colours": base64_of(bytes_V4, "u1"), "ends": ends}
    return [{**entry, **how, "counted": _selection(table)}]


def _typical(said: Sequence[Iterable[str]], order_N: Any) -> list[str]:
    """Nouns that the first voxels of an order name more often than all do, by the difference of shares."""
    first = order_N[: max(3, int(EDGE * len(order_N)))].tolist()
    everywhere = Counter(noun for nouns in said for noun in nouns)
    here = Counter(noun for row in first for noun in said[row])
    more = {noun: count / len(first) - everywhere[noun] / len(said) for noun, count in here.items()}
    return [noun for noun, difference in sorted(more.items(), key=lambda pair: (-pair[1], pair[0])) if difference > 0][:WORDS]


def _noun(one: Mapping[str, Any], nouns: Sequence[Iterable[str]]) -> list[dict[str, Any]]:
    """Every noun with its captions (numbers of texts), the noun that most voxels have first."""
    texts: dict[str, set[int]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for text, own in zip(one["caption"], nouns, strict=True):
        for noun in own:
            texts[noun].add(text)
            counts[noun] += 1
    words = sorted(counts, key=lambda noun: (-counts[noun], noun))
    if not words:
        return []
    entry = {"key": "noun", "kind": "noun", "label": "Noun in the caption"}
    return [
        {**entry, "words": words, "counts": [counts[noun] for noun in words], "texts": [sorted(texts[noun]) for noun in words]}
    ]


def _parts(table: pa.Table | None, one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A map for each region that was looked at, with its parts, what they say, and which voxel is in which."""
    if table is None:
        return []
    place = {voxel: row for row, voxel in enumerate(one["voxel"])}
    regions: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        name = f"Parts of {row['roi']}"
        region = regions.setdefault(row["roi"], {
            "key": f"parts:{row['roi']}", "kind": "parts", "group": "Parts of a region", "label": name, "roi": row["roi"],
            "parts": [], "rows": [], "part": [], "stability": rounded([row["stability"]], 3)[0], "note": None, "counted": None,
        })  # fmt: skip
        if row["level"] == "voxel":
            region["rows"].append(place[row["voxel_id"]])
            region["part"].append(row["part"])
            continue
        region["note"], region["counted"] = row["note"] or region["note"], row["selection"]
        if row["part"] is not None:
            region["parts"].append({"voxels": row["voxels"], "nouns": (row["nouns"] or [])[:PART_WORDS]})
    return list(regions.values())
