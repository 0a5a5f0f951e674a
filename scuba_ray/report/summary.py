"""The numbers at the top of the page: counts and medians of a set of voxels, recovery on the phantom, the maps to colour by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pyarrow as pa

from scuba_ray.analyses.recovery_summary import CEILING, summarise
from scuba_ray.report.payload import rounded

FDR = 0.05

_MAPS: tuple[dict[str, Any], ...] = (
    {"key": "r2", "label": "R²", "unit": "share of held-out variance predicted", "palette": "viridis", "low": 0},
    {
        "key": "noise_ceiling",
        "label": "Noise ceiling",
        "unit": "share of variance that is signal",
        "palette": "cividis",
        "low": 0,
    },
    {
        "key": "r2_normalised",
        "label": "R² / ceiling",
        "unit": "share of the explainable variance",
        "palette": "viridis",
        "low": 0,
    },
    {"key": "n_eff", "label": "Images averaged", "unit": "effective number n_eff, log scale", "palette": "cividis", "log": True},
    {"key": "bank_agreement", "label": "Bank agreement", "unit": "cosine between partitions", "palette": "viridis"},
    {
        "key": "split_half",
        "label": "Split-half",
        "unit": "cosine of weights fitted on two halves",
        "palette": "viridis",
        "low": 0,
    },
)


def overview(voxels: Mapping[str, Any], distinct: int) -> list[dict[str, Any]]:
    """Label, value and explanation of each headline number of one set of `payload.voxel_sets`."""
    scores = voxels["scores"]
    significant = [q for q in scores["q"] if q is not None]
    whole = [part["n_eff"] for part in voxels["projections"] if part["partition"] < 0]
    count = len(voxels["voxel"])
    placed = sum(vertex is not None for vertex in voxels["vertex"])
    rows = [
        ("voxels", count, f"{placed:,} on the surface" if placed < count else "all on the surface"),
        ("regions", len({roi for rois in voxels["rois"] for roi in rois}), "that the voxels belong to"),
        ("median R²", _median(scores["r2"]), "share of held-out variance"),
        ("median ceiling", _median(scores["noise_ceiling"]), "share of variance that is signal"),
        (
            "q < 0.05",
            sum(q < FDR for q in significant) / len(significant) if significant else None,
            "share of voxels, FDR-corrected",
        ),
        ("median n_eff", _median(whole[0]) if whole else None, "images averaged per voxel"),
        ("captions", distinct, "that differ, for the whole bank"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in rows]


def maps(voxels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scalar maps a set can be coloured by: key, label, unit, palette, range (2nd to 98th percentile) and values."""
    whole = [part["n_eff"] for part in voxels["projections"] if part["partition"] < 0]
    columns = {**voxels["scores"], "bank_agreement": voxels["bank_agreement"], "n_eff": whole[0] if whole else []}
    found = []
    for entry in _MAPS:
        values = sorted(value for value in columns[entry["key"]] if value is not None)
        if values:
            low, high = values[int(0.02 * (len(values) - 1))], values[math.ceil(0.98 * (len(values) - 1))]
            low = max(entry.get("low", low), low) if entry.get("log") else entry.get("low", low)
            found.append({**entry, "low": low, "high": high if high > low else low + 1e-3, "values": columns[entry["key"]]})
    return found


def recovery(table: pa.Table) -> list[dict[str, Any]]:
    """`analyses.recovery_summary` of the recovery table: rates per subject, backbone, voxel class and method, as mappings."""
    return [
        {name: rounded([value])[0] if isinstance(value, float) else value for name, value in row.items()}
        for row in summarise(table, ceiling=CEILING).to_pylist()
    ]


def planted(table: pa.Table, voxels: Mapping[str, Any], method: str) -> dict[str, Any] | None:
    """What was planted in each voxel of a set, and whether its caption names it; null where the analysis has no such subject."""
    names = ("subject", "backbone", "voxel_id", "method", "voxel_class", "concept", "hit")
    found = {
        voxel: (kind, concept, hit)
        for subject, backbone, voxel, made_by, kind, concept, hit in zip(
            *(table[name].to_pylist() for name in names), strict=True
        )
        if (subject, backbone, made_by) == (voxels["subject"], voxels["backbone"], method)
    }
    rows = [found.get(voxel, (None, None, None)) for voxel in voxels["voxel"]]
    columns = dict(zip(("kind", "concept", "hit"), map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    return columns if found else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
