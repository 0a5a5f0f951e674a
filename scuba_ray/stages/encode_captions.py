"""encode, of texts: what the stimuli's captions say, embedded by a backbone's text tower, for banded fits.

The rows go to the table `embeddings` like those of pictures, under the name `BACKBONE+caption`. A stimulus without a caption goes
to quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Backbone, BadRow, Chunk, Resources, StageOutput, SubjectDataset
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import embeddings_schema


@dataclass(frozen=True, kw_only=True)
class EncodeCaptions:
    """The captions of the pictures one subject saw, embedded by one backbone."""

    subject: SubjectConfig
    backbone: Backbone
    resources: Resources
    device: str = "cpu"

    name = "encode"
    version = 1
    table = "embeddings"
    input_columns = ("stimulus_id", "split", "caption")

    @property
    def input_name(self) -> str:
        return f"stimuli of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"backbone": self.backbone.fingerprint, "of": "caption"}

    def setup(self) -> None:
        _ = self._dataset, self._network

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _network(self) -> Backbone:
        return self.backbone.load(self.device)

    def read(self, chunk: Chunk) -> pa.Table:
        return self._dataset.stimuli().slice(chunk.start, chunk.stop - chunk.start)

    def __call__(self, rows: pa.Table) -> StageOutput:
        silent = rows.filter(pc.is_null(rows["caption"]))["stimulus_id"].to_pylist()
        rows = rows.filter(pc.is_valid(rows["caption"]))
        raw_ND = self._network.embed_texts(rows["caption"].to_pylist()).float().cpu().numpy()
        columns = {
            "subject": self.subject.name,
            "backbone": caption_space(self.backbone.name),
            "stimulus_id": rows["stimulus_id"],
            "split": rows["split"],
            "embedding": vectors(raw_ND.astype(np.float16)),
            "norm": numbers(np.linalg.norm(raw_ND, axis=1)),
        }
        bad = tuple(BadRow(f"stimulus_id={name}", "it has no caption") for name in silent)
        return StageOutput(table_of(embeddings_schema(self.backbone.dim), columns), bad)


def caption_space(backbone: str) -> str:
    """Value of the `backbone` key column for the embeddings of captions; no configured backbone can have a `+` in its name."""
    return f"{backbone}+caption"


def check_captions(dataset: SubjectDataset, why: str, instead: str) -> None:
    """Raise ConfigError, saying `why` they are read and what to do `instead`, if no stimulus of a data set has a caption."""
    stimuli = dataset.stimuli()
    if "caption" not in stimuli.column_names or stimuli["caption"].null_count == len(stimuli):
        raise ConfigError(
            f"{why}, but the stimuli of {dataset.subject} have none: add a column caption to stimuli.parquet, or {instead}"
        )
