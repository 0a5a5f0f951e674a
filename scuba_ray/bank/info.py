"""What is in a bank's folder: per backbone its collections, shards and norms, and what was left out and why."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.compute as pc

from scuba_ray.bank import index
from scuba_ray.bank.importers import NORMS
from scuba_ray.bank.listings import listed, name_of
from scuba_ray.bank.shards import BankFolder, banks_at, collection_of
from scuba_ray.errors import ConfigError
from scuba_ray.tables import files, manifest, parts
from scuba_ray.tables.manifest import PartEntry
from scuba_ray.tables.schemas import PARTITIONS

STATISTICS = b"statistics"
"""Key of a shard's schema metadata: JSON with pictures, rows, bad (by kind), norm_mean, norm_sd, partitions, precision."""
_READERS = 8
"""Shards whose last bytes are read at once."""


def info(location: str) -> list[dict[str, Any]]:
    """Describe the banks in a folder, a mapping each, from what shards say of themselves; no embedding is read.

    `quarantined` counts by kind what was left out, so that in a bank of built collections `listed` = rows + its sum.

    Raises
    ------
    ConfigError
        If there is no finished bank.
    """
    location = files.normalise(location)
    banks = banks_at(location)
    if not banks:
        raise ConfigError(f"there is no finished bank at {location}; build one with `scuba bank build --out {location}`")
    left_out = dict(_left_out(location))
    return [_describe(bank, left_out) for bank in banks]


def _describe(bank: BankFolder, left_out: Mapping[str, Counter[str]]) -> dict[str, Any]:
    with ThreadPoolExecutor(_READERS) as pool:
        stated = list(pool.map(lambda shard: _statistics(bank, shard), bank.shards))
    quarantined = sum((left_out.get(name, Counter()) for name in bank.collections), Counter[str]())
    for one in stated:
        quarantined.update(one.get("bad", {}))
    mean, deviation = _norms(bank, stated)
    units = manifest.load(bank.location, "bank")
    known = all("partitions" in one for one in stated)
    return {
        "location": bank.location,
        "backbone": bank.backbone,
        "fingerprint": bank.metadata["backbone_fingerprint"],
        "dim": int(bank.metadata["dim"]),
        "precision": ", ".join(sorted({one.get("precision", "unknown") for one in stated})),
        "rows": bank.rows,
        "shards": len(bank.shards),
        "bytes": sum(shard.bytes for shard in bank.shards),
        "collections": _by_name({key: units[key].rows for key in bank.keys}),
        "unfinished": list(bank.unfinished),
        "finished": not bank.unfinished,
        "partitions": [sum(one["partitions"][p] for one in stated) for p in range(PARTITIONS)] if known else None,
        "norm_mean": mean,
        "norm_sd": deviation,
        "norms": ", ".join(sorted({one["norms"] for one in stated})),
        "listed": bank.rows + quarantined.total(),
        "quarantined": dict(sorted(quarantined.items())),
        "index": index.describe(bank),
    }


def _statistics(bank: BankFolder, shard: PartEntry) -> dict[str, Any]:
    with bank.open(shard) as file:
        about = file.schema_arrow.metadata or {}
    return {**json.loads(about.get(STATISTICS, b"{}")), "norms": about.get(NORMS, b"raw").decode()}


def _norms(bank: BankFolder, stated: list[dict[str, Any]]) -> tuple[float | None, float | None]:
    """Mean and deviation of all norms, from those of the shards."""
    known = [
        (shard.rows, one["norm_mean"], one["norm_sd"])
        for shard, one in zip(bank.shards, stated, strict=True)
        if one.get("norm_mean") is not None
    ]
    rows = sum(count for count, *_ in known)
    if not rows:
        return None, None
    mean = sum(count * norm for count, norm, _ in known) / rows
    variance = sum(count * (deviation**2 + (norm - mean) ** 2) for count, norm, deviation in known) / rows
    return mean, math.sqrt(variance)


def _by_name(rows: Mapping[str, int]) -> dict[str, int]:
    """Rows of each collection, its portions together."""
    counts: Counter[str] = Counter()
    for key, count in rows.items():
        counts[name_of(collection_of(key)) or key] += count
    return dict(counts)


def _left_out(location: str) -> Iterator[tuple[str, Counter[str]]]:
    """For each collection that was scanned, how many of its pictures were not embedded by anybody, by kind."""
    names = files.names(location, parts.QUARANTINE_FOLDER)
    for listing in listed(location):
        counts: Counter[str] = Counter()
        for step, table in (("scan", "pictures"), ("admit", "admitted")):
            unit = parts.Unit(location, step, table, listing.collection, "")
            mine = [name for name in names if name.startswith(f"{step}-") and unit.owns(name.removeprefix(f"{step}-"))]
            for name in mine:
                reasons = parts.load(location, f"{parts.QUARANTINE_FOLDER}/{name}", ["reason"])["reason"]
                copies = pc.sum(pc.starts_with(reasons, "a duplicate")).as_py()
                twice = pc.sum(pc.starts_with(reasons, "a second picture with this id")).as_py()
                counts.update({"duplicate": copies, "same id": twice, "unreadable": len(reasons) - copies - twice})
        yield listing.collection, +counts
