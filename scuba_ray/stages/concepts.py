"""concepts: what else a voxel answers to. Its nearest pictures are clustered, each cluster is projected and captioned on its own.

Rows have the rank 1, 2, ... by falling share of the softmax mass over the voxel's nearest pictures. The softmax (here, and within
each cluster for its projection) is at `concepts.beta`: at the projection's own 150 the mass lies on a few pictures, so that most
clusters would have none (METHOD, section 3). A voxel whose pictures show one thing has one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.config import ConceptsConfig
from scuba_ray.core.clusters import find_clusters, project_clusters
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import BadRow, Captioner, Chunk, Resources, StageOutput
from scuba_ray.tables.columns import matrix, numbers, table_of
from scuba_ray.tables.schemas import CAPTIONS, WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """A caption per concept of one subject's voxels.

    A worker holds the nearest pictures' embeddings, 2 * D bytes each, and V * N * D * 4 for the N pictures of a chunk's voxels.
    """

    subject: str
    backbone: str
    captioner: Captioner
    decoding: Mapping[str, Any]
    """How it decodes, for the fingerprint: that of the stage `Caption`."""
    seed: int
    run: RunFolder
    settings: ConceptsConfig
    resources: Resources
    device: str = "cpu"

    name = "concepts"
    version = 2
    table = "captions"
    input_columns = ("voxel_id", "nearest_ids", "nearest_cos")
    input_name = "table projections"

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self.settings.model_dump(mode="json", exclude={"chunk"})
        return {"captioner": self.captioner.fingerprint, **self.decoding, "method": "concepts", "seed": self.seed, **settings}

    def setup(self) -> None:
        _ = self._writer, self._pictures

    @cached_property
    def _writer(self) -> Captioner:
        return self.captioner.load(self.device)

    @cached_property
    def _pictures(self) -> pa.Table:
        return self.run.read("nearest_pictures", key=self.backbone, columns=("image_id", "embedding")).combine_chunks()

    def read(self, chunk: Chunk) -> pa.Table:
        key, columns = f"{self.subject}/{self.backbone}", ("partition", *self.input_columns)
        rows = self.run.slice("projections", key, chunk.start, chunk.stop, columns=columns)
        return rows.filter(pc.equal(rows["partition"], WHOLE_BANK)).drop(["partition"])

    def __call__(self, rows: pa.Table) -> StageOutput:
        embedding_VND, cos_VN, present_VN = self._nearest(rows)
        settings = self.settings
        unit_VND = torch.nn.functional.normalize(embedding_VND, dim=2)
        found = find_clusters(unit_VND, present_VN, largest=settings.largest, threshold=settings.threshold, seed=self.seed)
        embedding_VkD, share_Vk = project_clusters(
            embedding_VND, cos_VN, found.label_VN, beta=settings.beta, clusters=settings.largest
        )
        order_Vk = share_Vk.argsort(dim=1, descending=True, stable=True)
        voxel_V = np.asarray(rows["voxel_id"])
        place = [(v, int(k), rank) for v, row in enumerate(order_Vk) for rank, k in enumerate(row, 1) if share_Vk[v, k] > 0]
        voxel_R, cluster_R, rank_R = (list(column) for column in zip(*place, strict=True)) if place else ([], [], [])
        best = [beams[0] for beams in self._writer.captions(embedding_VkD[voxel_R, cluster_R])]
        columns = {
            "subject": self.subject,
            "backbone": self.backbone,
            "voxel_id": voxel_V[voxel_R],
            "partition": WHOLE_BANK,
            "method": METHOD,
            "rank": rank_R,
            "caption": [beam.text for beam in best],
            "logprob": [beam.logprob for beam in best],
            "nouns": [nouns_of(beam.text) for beam in best],
            "share": numbers(share_Vk[voxel_R, cluster_R].numpy()),
        }
        bad = tuple(
            BadRow(
                f"subject={self.subject}, voxel_id={voxel}", "not one of its nearest pictures is in the table nearest_pictures"
            )
            for voxel in voxel_V[~present_VN.any(dim=1).numpy()]
        )
        return StageOutput(table_of(CAPTIONS, columns), bad)

    def _nearest(self, rows: pa.Table) -> tuple[Tensor, Tensor, Tensor]:
        """Raw embeddings (V, N, D), cosines (V, N) and presence (V, N) of the voxels' nearest pictures."""
        wanted = self.settings.pictures
        ids, cosines = (rows[name].to_pylist() for name in ("nearest_ids", "nearest_cos"))
        width = min(max(map(len, ids), default=0), wanted)
        id_VN = [(one + [None] * width)[:width] for one in ids]
        flat = pa.array([image for one in id_VN for image in one], pa.string())
        place = pc.index_in(flat, value_set=self._pictures["image_id"], skip_nulls=True)
        present_VN = torch.tensor(np.asarray(place.is_valid())).view(len(ids), width)
        embedding_ND = matrix(self._pictures["embedding"].take(pc.fill_null(place, 0))).astype(np.float32)
        cos_VN = torch.tensor([(one + [0.0] * width)[:width] for one in cosines], dtype=torch.float32).view(len(ids), width)
        return torch.tensor(embedding_ND).view(len(ids), width, embedding_ND.shape[1]), cos_VN, present_VN
