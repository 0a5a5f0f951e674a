"""`scuba show --compare`: captioning methods and their controls side by side, as held-out responses judge them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.comparison import ALL
from scuba_ray.analyses.recovery_summary import CEILING
from scuba_ray.errors import ConfigError
from scuba_ray.report.joined import keys
from scuba_ray.report.known import known_names

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

TABLE = "analyses/comparison"
SUPPORT = "analyses/support"
WIDTH = 180
"""Characters that the table takes without a line broken."""
SPARE = ("unsupported", "drive pct", "of ceiling")
"""Columns that a narrow terminal does without, the first one first."""
_DIFFERENCES = {"within_roi": "- within-ROI shuffled", "most_frequent": "- most frequent", "plain": "- plain"}
_DRAWN = pa.schema(
    [
        *((name, pa.string()) for name in ("subject", "backbone", "judge", "method")),
        ("voxels", pa.int64()),
        *((name, pa.string()) for name in ("held-out r", *_DIFFERENCES.values())),
        ("of ceiling", pa.float64()),
        ("drive pct", pa.float64()),
        ("unsupported", pa.float64()),
    ]
)


def comparison_table(run: RunFolder, *, roi: str | None = None) -> pa.Table:
    """Methods by judge, the best first; see `analyses.comparison.COMPARISON` for the columns.

    One more, `unsupported_nouns`, is the share of a method's nouns that the analysis `support` found no picture for, over the
    same voxels; null for controls, and in runs without that analysis.

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
    known = set(table["roi"].to_pylist())
    if wanted not in known:
        raise ConfigError(f"no scored voxel of this run is in ROI {wanted!r}; {known_names(wanted, known, 'regions')}")
    table = table.filter(pc.equal(table["roi"], wanted))
    order = [("subject", "ascending"), ("backbone", "ascending"), ("judge", "ascending"), ("heldout_r", "descending")]
    table = table.sort_by(order)
    shares = _unsupported(run, wanted) if run.keys(SUPPORT) else {}
    made = zip(*(table[name].to_pylist() for name in ("subject", "backbone", "method")), strict=True)
    return table.append_column("unsupported_nouns", pa.array([shares.get(key) for key in made], pa.float64()))


def for_people(table: pa.Table) -> pa.Table:
    """What `comparison_table` gives with 95 % intervals in brackets."""
    return pa.Table.from_pylist([_row(row) for row in table.to_pylist()], schema=_DRAWN)


def _unsupported(run: RunFolder, roi: str) -> dict[tuple[str, str, str], float]:
    """Share of unsupported nouns by subject, backbone and method, in the voxels that are compared."""
    voxels = run.read("voxels", columns=["subject", "backbone", "voxel_id", "rois", "noise_ceiling"])
    voxels = voxels.filter(pc.fill_null(pc.greater_equal(voxels["noise_ceiling"], CEILING), False))
    counted = {key for key, names in zip(keys(voxels), voxels["rois"].to_pylist(), strict=True) if roi in (ALL, *(names or ()))}
    judged = run.read(SUPPORT)
    found: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    fields = (judged[name].to_pylist() for name in ("method", "rank", "supported"))
    for key, method, rank, supported in zip(keys(judged), *fields, strict=True):
        if key in counted and rank == 0 and supported is not None:
            found[key[0], key[1], method].append(not supported)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("subject", "backbone", "judge", "method", "voxels")}
    shown["held-out r"] = _interval(row["heldout_r"], row["low"], row["high"])
    for name, heading in _DIFFERENCES.items():
        shown[heading] = _interval(row[f"minus_{name}"], row[f"low_minus_{name}"], row[f"high_minus_{name}"])
    last = (row[name] for name in ("ceiling_fraction", "drive_percentile", "unsupported_nouns"))
    return {**shown, **dict(zip(("of ceiling", "drive pct", "unsupported"), last, strict=True))}


def _interval(value: float | None, low: float | None, high: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
