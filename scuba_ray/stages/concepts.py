"""concepts: what else a voxel answers to. Its nearest pictures are clustered, each cluster is projected and captioned on its own.

Rows have the rank 1, 2, ... by falling share of the softmax mass over the voxel's nearest pictures. The softmax (here, and within
each cluster for its projection) is at `concepts.beta`: at the projection's own 150 the mass lies on a few pictures, so that most
clusters would have none (METHOD, section 3). A voxel whose pictures show one thing has one row.

Of a cluster's beams the voxel's own weights choose: the one with the largest w . t, as in `rerank`. A cluster holds what its
pictures happen to share, and the captioner's favourite beam may name just that; the weights know what drives the voxel.
On phantoms this gains a little precision at most, and names no more concepts (`benchmarks/concepts.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from scuba_ray.protocols import Backbone, BadRow, CaptionBeam, Captioner, Chunk, Resources, StageOutput
from scuba_ray.stages.ranking import rank_by_drive
from scuba_ray.tables.columns import matrix, numbers, table_of
from scuba_ray.tables.schemas import CAPTIONS, WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """A caption per concept of one subject's voxels.

    A worker holds the nearest pictures' embeddings, 2 * D bytes each, the subject's weights, V * D * 4 bytes, and for a chunk of
    voxels N * D * 4 bytes each for its N pictures, and D * 4 for each different beam.
    """

    subject: str
    backbone: Backbone
    """The captioned one: its text tower embeds the beams."""
    captioner: Captioner
    decoding: Mapping[str, Any]
    """How it decodes, for the fingerprint: that of the stage `Caption`."""
    seed: int
    run: RunFolder
    settings: ConceptsConfig
    resources: Resources
    device: str = "cpu"

    name = "concepts"
    version = 4
    table = "captions"
    input_columns = ("voxel_id", "nearest_ids", "nearest_cos")
    input_name = "table projections"

    def fingerprint(self) -> Mapping[str, Any]:
        settings = self.settings.model_dump(mode="json", exclude={"chunk"})
        models = {"captioner": self.captioner.fingerprint, "backbone": self.backbone.fingerprint}
        return {**models, **self.decoding, "method": "concepts", "seed": self.seed, **settings}

    def setup(self) -> None:
        _ = self._writer, self._pictures
        if self.settings.choose == "drive":
            _ = self._tower, self._weights

    @cached_property
    def _writer(self) -> Captioner:
        return self.captioner.load(self.device)

    @cached_property
    def _tower(self) -> Backbone:
        return self.backbone.load(self.device)

    @cached_property
    def _weights(self) -> pa.Table:
        key = f"{self.subject}/{self.backbone.name}"
        return self.run.read("voxels", key=key, columns=("voxel_id", "weight")).combine_chunks()

    @cached_property
    def _pictures(self) -> pa.Table:
        return self.run.read("nearest_pictures", key=self.backbone.name, columns=("image_id", "embedding")).combine_chunks()

    def read(self, chunk: Chunk) -> pa.Table:
        key, columns = f"{self.subject}/{self.backbone.name}", ("partition", *self.input_columns)
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
        written = self._writer.captions(embedding_VkD[voxel_R, cluster_R])
        ranked = self._ranked(written, pa.array(voxel_V[voxel_R], pa.int64()))
        best = [beams[0] for _, beams in ranked]
        columns = {
            "subject": self.subject,
            "backbone": self.backbone.name,
            "voxel_id": voxel_V[voxel_R],
            "partition": WHOLE_BANK,
            "method": METHOD,
            "rank": rank_R,
            "caption": [beam.text for beam in best],
            "logprob": [beam.logprob for beam in best],
            "nouns": [nouns_of(beam.text) for beam in best],
            "share": numbers(share_Vk[voxel_R, cluster_R].numpy()),
            "candidates": [[beam.text for beam in beams] for _, beams in ranked],
            "candidate_scores": [scores for scores, _ in ranked],
        }
        bad = tuple(
            BadRow(
                f"subject={self.subject}, voxel_id={voxel}", "not one of its nearest pictures is in the table nearest_pictures"
            )
            for voxel in voxel_V[~present_VN.any(dim=1).numpy()]
        )
        return StageOutput(table_of(CAPTIONS, columns), bad)

    def _ranked(self, written: Sequence[Sequence[CaptionBeam]], voxel_R: pa.Array) -> list[tuple[list[float], list[CaptionBeam]]]:
        """Scores and beams of each cluster, best first; by drive, each sentence once and none that is empty unless all are."""
        if self.settings.choose == "logprob":
            return [([beam.logprob for beam in beams], list(beams)) for beams in written]
        # the first of equal sentences is the likeliest
        beams_R = [{beam.text: beam for beam in reversed(beams) if beam.text} or {"": beams[0]} for beams in written]
        # every voxel that was projected has weights
        place = pc.index_in(voxel_R, value_set=self._weights["voxel_id"])
        ranked = rank_by_drive(self._tower, torch.tensor(matrix(self._weights["weight"].take(place))), beams_R, self.device)
        return [
            ([drive for drive, _ in group], [beams[text] for _, text in group])
            for group, beams in zip(ranked, beams_R, strict=True)
        ]

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
