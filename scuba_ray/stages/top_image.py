"""top-image, a control: the caption of the one bank image nearest to the voxel's direction, instead of a projection's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import BadRow, Chunk, Resources, StageOutput
from scuba_ray.tables.columns import table_of
from scuba_ray.tables.schemas import CAPTIONS, WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import TOP_IMAGE


@dataclass(frozen=True, kw_only=True)
class TopImage:
    """One row per projected voxel. Memory: the descriptions of all nearest pictures, as text."""

    subject: str
    backbone: str
    run: RunFolder
    descriptions: str
    """Unit of the table `descriptions`."""
    resources: Resources

    name = "top-image"
    version = 2
    table = "captions"
    input_columns = ("voxel_id", "partition", "nearest_ids")
    input_name = "table projections"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"method": TOP_IMAGE}

    def setup(self) -> None:
        _ = self._caption_of

    @cached_property
    def _caption_of(self) -> dict[str, str]:
        table = self.run.read("descriptions", key=self.descriptions, columns=["image_id", "caption"])
        return dict(zip(table["image_id"].to_pylist(), table["caption"].to_pylist(), strict=True))

    def read(self, chunk: Chunk) -> pa.Table:
        key = f"{self.subject}/{self.backbone}"
        return self.run.slice("projections", key, chunk.start, chunk.stop, columns=self.input_columns)

    def __call__(self, rows: pa.Table) -> StageOutput:
        rows = rows.filter(pc.equal(rows["partition"], WHOLE_BANK))
        nearest = dict(zip(rows["voxel_id"].to_pylist(), (ids[0] for ids in rows["nearest_ids"].to_pylist()), strict=True))
        said = {voxel: self._caption_of[image] for voxel, image in nearest.items() if image in self._caption_of}
        bad = [
            BadRow(f"subject={self.subject}, voxel_id={voxel}", f"its nearest picture {image} has no description")
            for voxel, image in nearest.items()
            if voxel not in said
        ]
        columns = {
            "subject": self.subject,
            "backbone": self.backbone,
            "voxel_id": list(said),
            "partition": WHOLE_BANK,
            "method": TOP_IMAGE,
            "rank": 0,
            "caption": list(said.values()),
            "nouns": [nouns_of(caption) for caption in said.values()],
        }
        return StageOutput(table_of(CAPTIONS, columns), tuple(bad))
