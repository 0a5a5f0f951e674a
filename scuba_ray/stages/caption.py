"""caption: projected embeddings in, sentences out, for the whole bank and each of its partitions.

The captioner's best beam becomes rank 0. Higher ranks belong to methods that write one row per concept (with its `share` of the
mass); this method writes one sentence, so `share` is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch

from scuba_ray.config import CaptionConfig
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import Captioner, Chunk, Resources, StageOutput
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.schemas import CAPTIONS
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Captions of one subject's projections."""

    subject: str
    backbone: str
    captioner: Captioner
    run: RunFolder
    settings: CaptionConfig
    resources: Resources
    device: str = "cpu"

    name = "caption"
    version = 4
    table = "captions"
    input_columns = ("voxel_id", "partition", "embedding")
    input_name = "table projections"

    def fingerprint(self) -> Mapping[str, Any]:
        """The captioner's fingerprint covers its checkpoint and language model; the rest is how it decodes."""
        return {"captioner": self.captioner.fingerprint, "method": METHOD, **decoding(self.settings)}

    def setup(self) -> None:
        _ = self._writer

    @cached_property
    def _writer(self) -> Captioner:
        return self.captioner.load(self.device)

    def read(self, chunk: Chunk) -> pa.Table:
        key = f"{self.subject}/{self.backbone}"
        return self.run.slice("projections", key, chunk.start, chunk.stop, columns=self.input_columns)

    def __call__(self, rows: pa.Table) -> StageOutput:
        places = zip(rows["voxel_id"].to_pylist(), rows["partition"].to_pylist(), strict=True)
        keys = [f"{self.subject}/{self.backbone}/{voxel}/{partition}" for voxel, partition in places]
        written = self._writer.captions(torch.tensor(matrix(rows["embedding"])), keys)
        best = [beams[0] for beams in written]
        columns = {
            "subject": self.subject,
            "backbone": self.backbone,
            "voxel_id": rows["voxel_id"],
            "partition": rows["partition"],
            "method": METHOD,
            "rank": 0,
            "caption": [beam.text for beam in best],
            "logprob": [beam.logprob for beam in best],
            "nouns": [nouns_of(beam.text) for beam in best],
            "candidates": [[beam.text for beam in beams] for beams in written],
            "candidate_scores": [[beam.logprob for beam in beams] for beams in written],
        }
        return StageOutput(table_of(CAPTIONS, columns))


def decoding(settings: CaptionConfig) -> dict[str, Any]:
    """The settings that can change what a captioner says, as JSON: those of the rule it decodes by."""
    of_rule = {"beam": {"beams"}, "greedy": {"rule"}, "nucleus": {"rule", "top_p", "samples", "seed"}}[settings.rule]
    precision = set() if settings.precision == "float32" else {"precision"}
    return settings.model_dump(mode="json", include={"max_tokens", "temperature", "stop"} | of_rule | precision)
