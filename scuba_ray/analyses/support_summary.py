"""The support table in a few lines: how many of a caption's nouns have pictures behind them, by method and region."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.recovery_summary import bootstrap
from scuba_ray.analyses.spoken import ALL
from scuba_ray.tables.ways import CONCEPTS, METHOD

DRAWS = 1000
"""Bootstrap draws."""


def summarise(support: pa.Table, voxels: pa.Table) -> list[dict[str, Any]]:
    """Mean over voxels of the share of their nouns that are supported, by subject, backbone, region and method.

    Nouns without a p count for nothing. A voxel's captions per concept are one method more.

    Parameters
    ----------
    support : pa.Table
        What the analysis `support` wrote.
    voxels : pa.Table
        Columns subject, backbone, voxel_id, rois.

    Returns
    -------
    list of dict
        subject, backbone, roi, method, voxels, share, low, high (95 % bootstrap interval over voxels; null of a single one).
    """
    asked = support.filter(pc.is_valid(support["supported"]))
    nouns: dict[tuple[str, str, str], dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    columns = (asked[name].to_pylist() for name in ("subject", "backbone", "method", "rank", "voxel_id", "supported"))
    for subject, backbone, method, rank, voxel, supported in zip(*columns, strict=True):
        nouns[subject, backbone, CONCEPTS if method == METHOD and rank > 0 else method][voxel].append(supported)
    rois: Mapping[tuple[str, str, int], list[str]] = {
        (row["subject"], row["backbone"], row["voxel_id"]): row["rois"] or [] for row in voxels.to_pylist()
    }
    rows = []
    for (subject, backbone, method), of_voxel in sorted(nouns.items()):
        shares: dict[str, list[float]] = defaultdict(list)
        for voxel, own in sorted(of_voxel.items()):
            for roi in (*rois.get((subject, backbone, voxel), []), ALL):
                shares[roi].append(float(np.mean(own)))
        for roi, own_V in shares.items():
            low, high = bootstrap(np.array(own_V), 0, DRAWS) if len(own_V) > 1 else (None, None)
            key = {"subject": subject, "backbone": backbone, "roi": roi, "method": method, "voxels": len(own_V)}
            rows.append({**key, "share": float(np.mean(own_V)), "low": low, "high": high})
    return rows
