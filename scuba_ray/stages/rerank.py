"""rerank: of all sentences written for a voxel, the one its own encoding model predicts the largest response to.

Candidates are the beams (or samples) of the whole bank and, if wanted, of each partition. A sentence's predicted response is
w . t with t its unit embedding by the text tower of the backbone the weights were fitted on (METHOD section 7: captions with
evidence). The plain caption stays; this one is a row of its own under `brainscuba-rerank`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from scuba_ray.config import RerankConfig
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import Backbone, Chunk, Resources, StageOutput
from scuba_ray.stages.ranking import rank_by_drive
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.schemas import CAPTIONS, WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD, RERANKED


@dataclass(frozen=True, kw_only=True)
class Rerank:
    """One re-ranked caption per voxel of a subject. Memory: the chunk's different candidates * D * 4 bytes."""

    subject: str
    network: Backbone
    run: RunFolder
    settings: RerankConfig
    resources: Resources
    device: str = "cpu"

    name = "rerank"
    version = 2
    table = "captions"
    input_columns = ("voxel_id", "weight")
    input_name = "table voxels"

    @property
    def _key(self) -> str:
        return f"{self.subject}/{self.network.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"backbone": self.network.fingerprint, "method": RERANKED, "partitions": self.settings.partitions}

    def setup(self) -> None:
        _ = self._tower, self._captions

    @cached_property
    def _tower(self) -> Backbone:
        return self.network.load(self.device)

    @cached_property
    def _captions(self) -> pa.Table:
        columns = ["voxel_id", "partition", "method", "candidates", "candidate_scores"]
        captions = self.run.read("captions", key=self._key, columns=columns)
        captions = captions.filter(pc.equal(captions["method"], METHOD))
        return captions if self.settings.partitions else captions.filter(pc.equal(captions["partition"], WHOLE_BANK))

    def read(self, chunk: Chunk) -> pa.Table:
        return self.run.slice("voxels", self._key, chunk.start, chunk.stop, columns=self.input_columns)

    def __call__(self, rows: pa.Table) -> StageOutput:
        found = self._candidates(rows)
        rows = rows.filter(pc.is_in(rows["voxel_id"], value_set=pa.array(list(found), pa.int64())))
        voxels = rows["voxel_id"].to_pylist()
        weight_VD = torch.tensor(matrix(rows["weight"]))
        ranked = rank_by_drive(self._tower, weight_VD, [found[voxel] for voxel in voxels], self.device)
        best = [of_voxel[0][1] for of_voxel in ranked]
        columns = {
            "subject": self.subject,
            "backbone": self.network.name,
            "voxel_id": rows["voxel_id"],
            "partition": WHOLE_BANK,
            "method": RERANKED,
            "rank": 0,
            "caption": best,
            "logprob": [found[voxel][text] for voxel, text in zip(voxels, best, strict=True)],
            "nouns": [nouns_of(text) for text in best],
            "candidates": [[text for _, text in of_voxel] for of_voxel in ranked],
            "candidate_scores": [[drive for drive, _ in of_voxel] for of_voxel in ranked],
        }
        return StageOutput(table_of(CAPTIONS, columns))

    def _candidates(self, rows: pa.Table) -> dict[int, dict[str, float]]:
        """Of each voxel that has captions and weights, its different sentences and the best log-probability each came with."""
        captions = self._captions
        usable = rows.filter(pc.is_valid(rows["weight"]))["voxel_id"].combine_chunks()
        captions = captions.filter(pc.is_in(captions["voxel_id"], value_set=usable))
        found: dict[int, dict[str, float]] = {}
        for row in captions.to_pylist():
            mine = found.setdefault(row["voxel_id"], {})
            for text, logprob in zip(row["candidates"], row["candidate_scores"], strict=True):
                if text:
                    mine[text] = max(logprob, mine.get(text, logprob))
        return {voxel: texts for voxel, texts in found.items() if texts}
