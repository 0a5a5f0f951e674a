"""synthesize: the pictures that were planned, by one method: from their prompts, or by the gradient of their voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.datasets.pictures import png_of
from scuba_ray.protocols import Chunk, ImageRequest, Resources, StageOutput, Synthesizer
from scuba_ray.stages.judging import mean_models
from scuba_ray.tables.columns import numbers, table_of
from scuba_ray.tables.image_schemas import SYNTHESES
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import BRAINDIVE


def asked(requests: pa.Table, method: str, *, parts: bool) -> pa.Table:
    """The rows of a plan that one unit of `syntheses` makes: of one method, either of parts of regions or of everything else.

    Parts are made again when the analysis that divides regions changes, which is no reason to make the others again.
    """
    of_part = pc.equal(requests["kind"], "part")
    return requests.filter(pc.and_(pc.equal(requests["method"], method), of_part if parts else pc.invert(of_part)))


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """One subject's pictures by one method, of parts of regions or of everything else.

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
    parts: bool = False
    """Whether these are the method's pictures of parts of regions, or all others."""

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
        return asked(self.run.read("requests", key=self._key, columns=self.input_columns), self.method, parts=self.parts)

    @cached_property
    def _direction_of(self) -> dict[str, npt.NDArray[np.float32]]:
        """For each target of the gradient route the mean weight of its voxels, taken once for all its pictures."""
        if self.method != BRAINDIVE:
            return {}
        rows = self.run.read("requests", key=self._key, columns=["target", "method", "kind", "voxels"])
        rows = asked(rows, self.method, parts=self.parts)
        voxels_of = dict(zip(rows["target"].to_pylist(), rows["voxels"].to_pylist(), strict=True))
        voxels = [np.array(voxels, np.int64) for voxels in voxels_of.values()]
        direction_TD = mean_models(self.run, self._key, voxels, "cpu").direction_TD
        return dict(zip(voxels_of, direction_TD.float().numpy(), strict=True))

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
