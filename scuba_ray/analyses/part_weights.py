"""The weights that `clusters` divides, and the bank's pictures that lie near some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.analyses.spoken import Spoken
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.tables.columns import matrix


@dataclass(frozen=True)
class Weights:
    """Of some voxels: direction and length of their weights, biases, and the pictures that are nearest to some voxel."""

    unit_VD: Tensor
    norm_V: Tensor
    bias_V: Tensor
    """0 where there is none."""
    picture_KD: Tensor
    """Unit embeddings."""
    image_ids: tuple[str, ...]

    @classmethod
    def of(cls, one: Spoken, tables: Mapping[str, pa.Table]) -> Weights:
        """Those of the voxels that count, in their order."""
        voxels, pictures = tables["voxels"], tables["nearest_pictures"]
        own = voxels.filter(pc.and_(pc.equal(voxels["subject"], one.subject), pc.equal(voxels["backbone"], one.backbone)))
        own = own.take(pc.index_in(pa.array(one.voxel_ids, pa.int64()), own["voxel_id"].combine_chunks()))
        near = pictures.filter(pc.equal(pictures["backbone"], one.backbone))
        unit_VD, norm_V = unit_and_norm(torch.tensor(matrix(own["weight"])))
        bias_V = pc.fill_null(own["bias"], 0.0).to_numpy()
        picture_KD = unit_and_norm(torch.tensor(matrix(near["embedding"])))[0]
        return cls(unit_VD, norm_V, torch.tensor(bias_V), picture_KD, tuple(near["image_id"].to_pylist()))

    def rows(self, index_N: npt.NDArray[np.int64]) -> Weights:
        """Some of the voxels."""
        index = torch.from_numpy(index_N)
        return replace(self, unit_VD=self.unit_VD[index], norm_V=self.norm_V[index], bias_V=self.bias_V[index])

    def nearest(self, centre_kD: Tensor, pictures: int) -> tuple[Tensor, Tensor]:
        """Numbers of the pictures nearest to each centre and their cosines, (k, P)."""
        cos_kK = centre_kD @ self.picture_KD.T
        cos_kP, nearest_kP = cos_kK.topk(min(pictures, len(self.image_ids)), dim=1)
        return nearest_kP, cos_kP

    def predicted(self, label_V: Tensor, nearest_kP: Tensor) -> list[list[float]]:
        """Mean predicted response of each part's voxels to the pictures of each part, [voxels of][pictures of]."""
        means = []
        for part in range(len(nearest_kP)):
            inside_V = label_V == part
            weight_D = (self.unit_VD * self.norm_V[:, None])[inside_V].mean(0)
            bias = self.bias_V[inside_V].mean()
            means.append([float((self.picture_KD[near_P] @ weight_D).mean() + bias) for near_P in nearest_kP])
        return means
