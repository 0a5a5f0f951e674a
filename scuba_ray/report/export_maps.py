"""What of a run becomes maps: numbers and regions of each voxel of a subject, and where the voxels lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.embedding_map import COLOURS
from scuba_ray.report.analysed import EMBEDDING_MAP, PERSON, own_rows
from scuba_ray.report.joined import PROJECTION_COLUMNS, VOXEL_COLUMNS, voxel_rows
from scuba_ray.report.palette import region_colours
from scuba_ray.tables.schemas import WHOLE_BANK

if TYPE_CHECKING:
    from scuba_ray.tables.store import RunFolder

Floats = npt.NDArray[np.float32]

DESCRIPTIONS = {
    "r2": "R2 on test images (share of the variance of the mean response)",
    "r": "correlation of predicted and measured responses to test images",
    "noise_ceiling": "noise ceiling (share of the variance that repeats of an image have in common)",
    "q": "false-discovery rate of R2 by permutation",
    "n_eff": "effective number of bank images that the projection averages",
    "bank_agreement": "mean cosine of the projections on the bank's disjoint partitions",
    "person_share": "share of the voxel's captions that name people",
    "red": "embedding map, red (0 to 1)",
    "green": "embedding map, green (0 to 1)",
    "blue": "embedding map, blue (0 to 1)",
}
"""All maps, in the order they are written, with what they show."""
_OF_VOXELS, _OF_PROJECTIONS = ("r2", "r", "noise_ceiling", "q"), ("n_eff", "bank_agreement")


@dataclass(frozen=True)
class Exported:
    """One subject under one backbone: its captioned voxels, in the order of the table."""

    subject: str
    backbone: str
    voxels: pa.Table
    """As `joined.voxel_rows` gives them."""
    values: Mapping[str, Floats]
    """Maps by name, each (V,), NaN where a voxel has no value; those that no voxel has a value of are not there."""
    colours: Mapping[str, str]
    """All regions of the run by name, `#RRGGBB`; the same for every subject."""

    @property
    def rois(self) -> list[list[str]]:
        """The regions of each voxel."""
        return [names or [] for names in self.voxels["rois"].to_pylist()]

    @property
    def missing(self) -> list[str]:
        """Maps that no voxel has a value of."""
        return [name for name in DESCRIPTIONS if name not in self.values]


def exported(run: RunFolder, subject: str | None = None) -> list[Exported]:
    """Every captioned subject and backbone, or those of one subject.

    Raises
    ------
    DataError
        If the run has no finished captions.
    """
    voxels = voxel_rows(run, VOXEL_COLUMNS)
    colours = dict(sorted(region_colours(name for names in voxels["rois"].to_pylist() for name in names or ()).items()))
    projections = run.read("projections", columns=list(PROJECTION_COLUMNS))
    projections = projections.filter(pc.equal(projections["partition"], WHOLE_BANK))
    pairs = dict.fromkeys(zip(voxels["subject"].to_pylist(), voxels["backbone"].to_pylist(), strict=True))
    return [
        _exported(run, _own(voxels, *pair), _own(projections, *pair), colours)
        for pair in pairs
        if subject is None or pair[0] == subject
    ]


def _exported(run: RunFolder, voxels: pa.Table, projections: pa.Table, colours: Mapping[str, str]) -> Exported:
    subject, backbone = (voxels[name][0].as_py() for name in ("subject", "backbone"))
    values = {name: _floats(voxels[name]) for name in _OF_VOXELS}
    values |= {name: _of(voxels, projections, name) for name in _OF_PROJECTIONS}
    person = own_rows(run, PERSON, subject, backbone)
    if person is not None:
        values["person_share"] = _of(voxels, person.filter(pc.equal(person["level"], "voxel")), "person_share")
    embedding_map = own_rows(run, EMBEDDING_MAP, subject, backbone)
    if embedding_map is not None:
        mapped = embedding_map.filter(pc.is_valid(embedding_map["voxel_id"]))
        values |= {name: _of(voxels, mapped, column) for name, column in zip(("red", "green", "blue"), COLOURS, strict=True)}
    known = {name: values[name] for name in DESCRIPTIONS if name in values and not np.isnan(values[name]).all()}
    return Exported(subject, backbone, voxels, known, colours)


def _own(table: pa.Table, subject: str, backbone: str) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["subject"], subject), pc.equal(table["backbone"], backbone)))


def _of(voxels: pa.Table, table: pa.Table, name: str) -> Floats:
    """A column of a table in the order of the voxels, NaN for those that it lacks."""
    place = pc.index_in(voxels["voxel_id"].combine_chunks(), table["voxel_id"].combine_chunks())
    return _floats(table[name].take(place))


def _floats(column: pa.ChunkedArray) -> Floats:
    """NaN for null."""
    values: Floats = column.cast(pa.float32()).to_numpy()
    return values
