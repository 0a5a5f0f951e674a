"""synthesize: the pictures that were planned, by one method: from their prompts, or by the gradient of their voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from scuba_ray.protocols import Chunk, ImageRequest, Resources, StageOutput, Synthesizer
from scuba_ray.tables.columns import matrix, numbers, table_of
from scuba_ray.tables.image_schemas import SYNTHESES
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import BRAINDIVE

SLICE = 8192
"""Voxels whose weights are read at once."""


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """One subject's pictures by one method.

    A worker holds the networks of its model, and for the gradient route first the weights of all targets' voxels, then D * 4
    bytes a target. A picture that cannot be made goes to quarantine.
    """

    subject: str
    backbone: str
    method: str
    synthesizer: Synthesizer
    run: RunFolder
    resources: Resources
    device: str = "cpu"

    name = "synthesize"
    version = 1
    table = "syntheses"
    input_columns = ("target", "method", "sample", "kind", "prompt", "noun", "seed")
    input_name = "table requests"

    @property
    def _key(self) -> str:
        return f"{self.subject}/{self.backbone}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"method": self.method, "synthesizer": self.synthesizer.fingerprint}

    def setup(self) -> None:
        _ = self._maker, self._requests, self._direction_of

    @cached_property
    def _maker(self) -> Synthesizer:
        return self.synthesizer.load(self.device)

    @cached_property
    def _requests(self) -> pa.Table:
        rows = self.run.read("requests", key=self._key, columns=self.input_columns)
        return rows.filter(pc.equal(rows["method"], self.method))

    @cached_property
    def _direction_of(self) -> dict[str, npt.NDArray[np.float32]]:
        """For each target of the gradient route the mean weight of its voxels, taken once for all its pictures."""
        if self.method != BRAINDIVE:
            return {}
        rows = self.run.read("requests", key=self._key, columns=["target", "method", "voxels"])
        rows = rows.filter(pc.equal(rows["method"], self.method))
        voxels_of = dict(zip(rows["target"].to_pylist(), rows["voxels"].to_pylist(), strict=True))
        weight_VD, ids = self._weights(pa.array(sorted({voxel for voxels in voxels_of.values() for voxel in voxels}), pa.int64()))
        direction_of = {}
        for target, voxels in voxels_of.items():
            row_N = pc.index_in(pa.array(voxels, pa.int64()), value_set=ids).to_numpy()
            direction_of[target] = weight_VD[row_N].mean(axis=0, dtype=np.float64).astype(np.float32)
        return direction_of

    def _weights(self, wanted: pa.Array) -> tuple[npt.NDArray[np.float32], pa.Array]:
        """Weights of some voxels (N, D), and whose they are."""
        total, found = self.run.rows("voxels", self._key), []
        for start in range(0, total, SLICE):
            rows = self.run.slice("voxels", self._key, start, min(start + SLICE, total), columns=["voxel_id", "weight"])
            found.append(rows.filter(pc.is_in(rows["voxel_id"], value_set=wanted)))
        weights = pa.concat_tables(found)
        return matrix(weights["weight"]), weights["voxel_id"].combine_chunks()

    def read(self, chunk: Chunk) -> pa.Table:
        return self._requests.slice(chunk.start, chunk.stop - chunk.start)

    def __call__(self, rows: pa.Table) -> StageOutput:
        wanted = zip(*(rows[name].to_pylist() for name in ("prompt", "seed", "target")), strict=True)
        requests = [ImageRequest(prompt, seed, self._direction_of.get(target)) for prompt, seed, target in wanted]
        made = self._maker.images(requests)
        columns = {
            "subject": self.subject,
            "backbone": self.backbone,
            **{name: rows[name] for name in self.input_columns},
            "png": [png_of(image.pixels_HW3) for image in made],
            "seconds": numbers(np.array([image.seconds for image in made])),
            "batch": [image.batch for image in made],
            "truncated": [image.truncated for image in made],
        }
        return StageOutput(table_of(SYNTHESES, columns))


def png_of(pixels_HW3: npt.NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    file = BytesIO()
    Image.fromarray(pixels_HW3).save(file, "PNG")
    return file.getvalue()
