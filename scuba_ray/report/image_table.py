"""Images of a run for the terminal: a row each, or an item each among everything about a voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.errors import ConfigError
from scuba_ray.report.known import known_names
from scuba_ray.stages.divisions import region_of_part

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

IMAGE_COLUMNS = [
    "subject", "backbone", "target", "method", "rank", "prompt", "predicted", "predicted_independent", "percentile", "category",
]  # fmt: skip
"""What is said of an image, beside its kind."""
_KINDS = ("query", "roi", "part", "voxel")
"""The order in which images are listed."""


def image_table(run: RunFolder, *, voxel: int | None = None, roi: str | None = None, limit: int | None = None) -> pa.Table:
    """Images that were made, by target and method, best first. Stimuli are left out.

    Parameters
    ----------
    run : RunFolder
        A finished run.
    voxel, roi : optional
        Only the images of this voxel, of this region and its parts, or of this part.
    limit : int, optional
        At most this many rows.

    Returns
    -------
    pa.Table
        subject, backbone, target (a region, `REGION part N`, `voxel ID`, or a query), method, rank (from 0), prompt, predicted
        and predicted_independent (mean response of the target's voxels, z), percentile (0 to 100, among stimuli), category (by
        the independent judge).

    Raises
    ------
    ConfigError
        If the run made no images, or none for what was asked; the message lists the targets there are.
    """
    if not run.keys("images"):
        raise ConfigError("this run made no images; add the setting `synthesize` and run it again")
    made = _made(run)
    known = set(made["target"].to_pylist())
    for target, kinds in ((None if voxel is None else f"voxel {voxel}", ("voxel",)), (roi, ("roi", "part"))):
        if target is not None:
            made = pa.Table.from_pylist(
                [row for row in made.to_pylist() if row["kind"] in kinds and _belongs(row, target)], made.schema
            )
            if not made.num_rows:
                raise ConfigError(f"this run made no images for {target}; {known_names(target, known, 'targets')}")
    made = made.drop_columns(["kind"])
    return made if limit is None else made.slice(0, limit)


def image_items(run: RunFolder, subject: str, backbone: str, voxel: int) -> list[tuple[str, str]]:
    """The images made for one voxel of one subject, as item and value."""
    if f"{subject}/{backbone}" not in run.keys("images"):
        return []
    made = _made(run, f"{subject}/{backbone}")
    mine = made.filter(pc.and_(pc.equal(made["kind"], "voxel"), pc.equal(made["target"], f"voxel {voxel}")))
    return [(f"image {row['rank'] + 1}, {row['method']}", _said(row)) for row in mine.to_pylist()]


def _made(run: RunFolder, key: str | None = None) -> pa.Table:
    table = run.read("images", key=key, columns=[*IMAGE_COLUMNS, "kind", "stimulus_id"])
    made = table.filter(pc.is_null(table["stimulus_id"])).drop_columns(["stimulus_id"])
    places = pc.index_in(made["kind"], value_set=pa.array(_KINDS))
    order = [(name, "ascending") for name in ("subject", "backbone", "place", "target", "method", "rank")]
    return made.append_column("place", places).sort_by(order).drop_columns(["place"])


def _belongs(row: dict[str, Any], target: str) -> bool:
    """Whether an image was made for a target, or for a part of it."""
    return row["target"] == target or (row["kind"] == "part" and region_of_part(row["target"]) == target)


def _said(row: dict[str, Any]) -> str:
    """A prompt, and in brackets what its judges say."""
    about = [f"predicted {row['predicted']:.4g} z"] if row["predicted"] is not None else []
    about += [f"independently {row['predicted_independent']:.4g} z"] if row["predicted_independent"] is not None else []
    about += [f"percentile {row['percentile']:.4g}"] if row["percentile"] is not None else []
    about += [f"seen as {row['category']}"] if row["category"] is not None else []
    return f"{row['prompt'] or 'no prompt'} ({'; '.join(about)})"
