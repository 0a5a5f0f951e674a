"""`scuba show --compare`: captioning methods and their controls side by side, as held-out responses judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.errors import ConfigError

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

TABLE = "analyses/comparison"
ALL = "all voxels"
_DIFFERENCES = {"within_roi": "minus within-ROI shuffled", "most_frequent": "minus most frequent", "plain": "minus plain"}


def comparison_table(run: RunFolder, *, roi: str | None = None) -> pa.Table:
    """Methods by judge, the best first, with 95 % intervals in brackets; see `analyses.comparison` for what they mean.

    Parameters
    ----------
    run : RunFolder
    roi : str, optional
        A region; all voxels if not given.

    Raises
    ------
    ConfigError
        If the run compares nothing, or has no such region; the message says what to do.
    """
    if not run.keys(TABLE):
        raise ConfigError(f"{run.location} holds no scores of captions: run it again with `score` set (its default)")
    table = run.read(TABLE)
    wanted = roi or ALL
    known = sorted(set(table["roi"].to_pylist()))
    if wanted not in known:
        raise ConfigError(f"no scored voxel of this run is in ROI {wanted!r}; regions: {', '.join(known) or 'none'}")
    table = table.filter(pc.equal(table["roi"], wanted))
    order = [("subject", "ascending"), ("backbone", "ascending"), ("judge", "ascending"), ("heldout_r", "descending")]
    return pa.Table.from_pylist([_row(row) for row in table.sort_by(order).to_pylist()], schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("subject", "backbone", "judge", "method")),
        ("voxels", pa.int64()),
        *((name, pa.string()) for name in ("held-out r", *_DIFFERENCES.values())),
        ("of ceiling", pa.float64()),
        ("drive percentile", pa.float64()),
    ]
)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("subject", "backbone", "judge", "method", "voxels")}
    shown["held-out r"] = _interval(row["heldout_r"], row["low"], row["high"])
    for name, heading in _DIFFERENCES.items():
        shown[heading] = _interval(row[f"minus_{name}"], row[f"low_minus_{name}"], row[f"high_minus_{name}"])
    return {**shown, "of ceiling": row["ceiling_fraction"], "drive percentile": row["drive_percentile"]}


def _interval(value: float | None, low: float | None, high: float | None) -> str | None:
    return None if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
