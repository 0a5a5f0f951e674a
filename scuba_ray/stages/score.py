"""score: how well each caption predicts responses to images it was not made from (METHOD sections 6 and 7).

A caption's predicted response to a test image is the similarity of the two in a judge's space: caption by the judge's text tower,
image by its image tower (or the image's own caption, for a sentence encoder). `heldout_r` is Spearman's correlation with the
measured response over the test images. The captioned backbone judges too, but it had a part in making the captions; another
model did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.config import SubjectConfig
from scuba_ray.core.scoring import caption_scores, drive_percentiles
from scuba_ray.core.vectors import cosine, unit_and_norm
from scuba_ray.datasets import make_dataset
from scuba_ray.protocols import Backbone, Chunk, Resources, StageOutput, SubjectDataset
from scuba_ray.stages.features import FeatureSpace, Images
from scuba_ray.stages.said import controls, headline, said
from scuba_ray.tables.columns import matrix, numbers, table_of
from scuba_ray.tables.responses import read_responses
from scuba_ray.tables.schemas import SCORES, WHOLE_BANK
from scuba_ray.tables.store import RunFolder
from scuba_ray.tables.ways import METHOD


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scores of one subject's captions by one judge. Memory: (captions + voxels of a chunk) * test images * 4 bytes."""

    subject: SubjectConfig
    backbone: str
    """The captioned backbone, in the key of what is scored."""
    judge: str
    """Value of the key column `judge`."""
    network: Backbone
    """Embeds the captions."""
    images: str
    """Unit of the table `embeddings` that holds the test images in the judge's space."""
    captions: tuple[str, ...]
    """Units of the table `captions` that are scored."""
    weights: str | None
    """Unit of the table `voxels` with weights in the judge's space, for drives; None where there is none."""
    run: RunFolder
    ceiling_floor: float
    seed: int
    resources: Resources
    device: str = "cpu"

    name = "score"
    version = 2
    table = "scores"
    input_columns = ("voxel_id", "column", "rois")

    @property
    def input_name(self) -> str:
        return f"voxels of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        about = {"judge": self.judge, "network": self.network.fingerprint, "weights": self.weights is not None}
        return {**about, "images": self.images, "seed": self.seed, "ceiling_floor": self.ceiling_floor}

    def setup(self) -> None:
        _ = self._texts, self._test, self._weight

    # ------------------------------------------------------------------------------------------ per worker, once

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _rows(self) -> pa.Table:
        """Everything that is scored, controls included."""
        captions = said(self.run, self.captions)
        best = headline(captions)
        voxels = self._dataset.voxels()
        place = pc.index_in(best["voxel_id"], value_set=voxels["voxel_id"].combine_chunks())
        rois = [names or [] for names in voxels["rois"].take(place).to_pylist()]
        return pa.concat_tables([captions, controls(best, rois, self.seed)])

    @cached_property
    def _texts(self) -> tuple[pa.Array, Tensor]:
        """The different captions, and their unit embeddings (C, D)."""
        texts = pc.unique(self._rows["caption"])
        embedding_CD = self.network.load(self.device).embed_texts(texts.to_pylist())
        return texts, unit_and_norm(embedding_CD)[0].to(self.device)

    @cached_property
    def _space(self) -> FeatureSpace:
        return FeatureSpace(self.run, self.images, "unit", self.device)

    @cached_property
    def _test(self) -> Images:
        return self._space.test(self._dataset)

    @cached_property
    def _weight(self) -> tuple[pa.Array, Tensor, Tensor] | None:
        """Voxel ids and weights (V, D) in the judge's space, and all of the subject's images there (S, D)."""
        if self.weights is None:
            return None
        voxels = self.run.read("voxels", key=self.weights, columns=["voxel_id", "weight"])
        voxels = voxels.filter(pc.is_valid(voxels["weight"]))
        images_SD = torch.cat([self._space.training(self._dataset).X_SD, self._test.X_SD])
        return voxels["voxel_id"].combine_chunks(), torch.tensor(matrix(voxels["weight"])).to(self.device), images_SD

    # ------------------------------------------------------------------------------------------ per chunk of voxels

    def read(self, chunk: Chunk) -> pa.Table:
        voxels = self._dataset.voxels().select(["voxel_id", "rois"]).slice(chunk.start, chunk.stop - chunk.start)
        return voxels.append_column("column", pa.array(np.arange(chunk.start, chunk.stop)))

    def __call__(self, rows: pa.Table) -> StageOutput:
        columns_V = rows["column"].to_numpy()
        start = int(columns_V.min())
        prepared = read_responses(self.run, self.subject.name, start, int(columns_V.max()) + 1)
        mine_V = columns_V - start
        response_SV = torch.tensor(prepared.Y_SV[self._test.rows_S][:, mine_V], device=self.device)
        ids = rows["voxel_id"].combine_chunks()
        scored = self._rows.filter(pc.is_in(self._rows["voxel_id"], value_set=ids))
        scored = scored.sort_by([(name, "ascending") for name in ("voxel_id", "method", "rank", "partition")])
        texts, embedding_CD = self._texts
        text_N, voxel_N = (
            pc.index_in(scored[name], value_set=known).to_numpy().astype(np.int64)
            for name, known in (("caption", texts), ("voxel_id", ids))
        )
        used_U, text_N = np.unique(text_N, return_inverse=True)
        pairs_N2 = torch.tensor(np.stack([text_N, voxel_N], axis=1), device=self.device)
        text_UD = embedding_CD[torch.from_numpy(used_U)]
        r_N = caption_scores(text_UD, self._test.X_SD, response_SV, pairs_N2).cpu().numpy()
        ceiling_N = prepared.noise_ceiling_V[mine_V][voxel_N]
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction_N = np.where(ceiling_N >= self.ceiling_floor, r_N / np.sqrt(ceiling_N), np.nan)
        columns = {
            **{name: scored[name] for name in ("voxel_id", "partition", "method", "rank", "caption")},
            "subject": self.subject.name,
            "backbone": self.backbone,
            "judge": self.judge,
            "heldout_r": numbers(r_N),
            "drive_percentile": numbers(self._percentiles(scored)),
            "ceiling_fraction": numbers(fraction_N),
            "partition_agreement": numbers(self._agreement(scored)),
            "images": len(self._test.rows_S),
        }
        return StageOutput(table_of(SCORES, columns))

    def _percentiles(self, scored: pa.Table) -> npt.NDArray[np.float32]:
        """Drive percentiles of scored rows; NaN for voxels without weights in the judge's space."""
        percentile_N = np.full(len(scored), np.nan, np.float32)
        if self._weight is None:
            return percentile_N
        ids, weight_VD, images_SD = self._weight
        texts, embedding_CD = self._texts
        place = pc.index_in(scored["voxel_id"], value_set=ids).to_numpy(zero_copy_only=False).astype(np.float64)
        there_N = ~np.isnan(place)
        used_U, voxel_N = np.unique(place[there_N].astype(np.int64), return_inverse=True)
        text_N = pc.index_in(scored["caption"], value_set=texts).to_numpy().astype(np.int64)[there_N]
        pairs_N2 = torch.tensor(np.stack([text_N, voxel_N], axis=1), device=self.device)
        found_N = drive_percentiles(weight_VD[torch.from_numpy(used_U)], images_SD, embedding_CD, pairs_N2)
        percentile_N[there_N] = found_N.cpu().numpy()
        return percentile_N

    def _agreement(self, scored: pa.Table) -> npt.NDArray[np.float32]:
        """Of each whole-bank caption with partition twins, the mean cosine with them by the judge's text tower; else NaN."""
        texts, embedding_CD = self._texts
        agreement_N = np.full(len(scored), np.nan, np.float32)
        text_N = pc.index_in(scored["caption"], value_set=texts).to_numpy()
        twins: dict[int, list[int]] = {}
        wholes: dict[int, int] = {}
        keys = zip(*(scored[name].to_pylist() for name in ("voxel_id", "partition", "method", "rank")), strict=True)
        for row, (voxel, partition, method, rank) in enumerate(keys):
            if method != METHOD or rank != 0:
                continue
            if partition == WHOLE_BANK:
                wholes[voxel] = row
            else:
                twins.setdefault(voxel, []).append(row)
        for voxel, row in wholes.items():
            if voxel in twins:
                others_PD = embedding_CD[torch.from_numpy(text_N[twins[voxel]].astype(np.int64))]
                agreement_N[row] = float(cosine(embedding_CD[int(text_N[row])], others_PD).mean())
        return agreement_N
