"""Projections as rows of the table `projections`, however they were computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.bank.ids import ids_of
from scuba_ray.bank.shards import BankFolder
from scuba_ray.core.projection import Projection
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import PARTITIONS, WHOLE_BANK, projections_schema


def projection_table(
    voxel_V: npt.NDArray[np.int64],
    projection: Projection,
    bank: BankFolder,
    *,
    subject: str,
    backbone: str,
    missing_mass: float | npt.NDArray[np.float64] = 0.0,
    certainty: str = "exact",
) -> pa.Table:
    """Rows voxel by voxel, partitions 0, 1, ... and last the whole bank; a partition without pictures has no row.

    `missing_mass` is one for all rows, or one for each.

    Raises
    ------
    DataError
        If the ids of the nearest pictures cannot be read.
    """
    filled_P = (projection.count_P > 0).cpu().numpy()
    partition_P = np.append(np.arange(PARTITIONS), WHOLE_BANK)[filled_P]

    def flat(values: torch.Tensor) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = values.cpu().numpy()[filled_P].swapaxes(0, 1)
        return array.reshape(-1, *array.shape[2:])

    ids, cosines = _nearest(bank, flat(projection.nearest_index_PVk), flat(projection.nearest_cos_PVk))
    columns = {
        "subject": subject,
        "backbone": backbone,
        "voxel_id": np.repeat(voxel_V, len(partition_P)),
        "partition": np.tile(partition_P, len(voxel_V)),
        "embedding": vectors(flat(projection.embedding_PVD)),
        "cos_before_after": numbers(flat(projection.cos_before_after_PV)),
        "n_eff": numbers(flat(projection.n_eff_PV)),
        "bank_agreement": numbers(flat(projection.bank_agreement_PV)),
        "half_agreement": numbers(np.repeat(projection.half_agreement_V.cpu().numpy(), len(partition_P))),
        "nearest_ids": ids,
        "nearest_cos": cosines,
        "missing_mass": missing_mass,
        "certainty": certainty,
    }
    return table_of(projections_schema(projection.embedding_PVD.shape[2]), columns)


def _nearest(
    bank: BankFolder, index_Nk: npt.NDArray[np.int64], cos_Nk: npt.NDArray[np.float32]
) -> tuple[pa.ListArray, pa.ListArray]:
    """Ids and cosines of the nearest pictures, fewer where there are no more."""
    there_Nk = index_Nk >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(there_Nk.sum(axis=1))]).astype(np.int32))
    ids, cosines = ids_of(bank, index_Nk[there_Nk]), pa.array(cos_Nk[there_Nk], pa.float32())
    return pa.ListArray.from_arrays(offsets, ids), pa.ListArray.from_arrays(offsets, cosines)
