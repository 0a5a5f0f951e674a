"""The deployment that answers from tables: subjects are loaded as they are asked for, and the last few kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ray import serve

from scuba_ray.config import ServeConfig
from scuba_ray.serve.subject_tables import SubjectTables
from scuba_ray.tables.store import RunFolder


class Subjects:
    """Answers for the subject that a call is marked with: `handle.options(multiplexed_model_id=subject)`.

    Ray Serve sends calls for a subject to replicas that have it in memory. Methods are those of `SubjectTables`, in threads: a
    file that is slow to read keeps nobody else waiting.
    """

    def __init__(self, settings: ServeConfig, backbone: str) -> None:
        folder = RunFolder(settings.run)

        async def open_subject(subject: str) -> SubjectTables:
            return await asyncio.to_thread(SubjectTables, folder, subject, backbone)

        self._open = serve.multiplexed(max_num_models_per_replica=settings.subjects_in_memory)(open_subject)

    async def _tables(self) -> SubjectTables:
        tables: SubjectTables = await self._open(serve.get_multiplexed_model_id())
        return tables

    async def weights(self, voxels: Sequence[int]) -> npt.NDArray[np.float32]:
        """See `SubjectTables.weights`."""
        return (await self._tables()).weights(voxels)

    async def predict(self, embeddings: Sequence[npt.NDArray[np.float32] | str], voxels: Sequence[int] | None) -> pa.Table:
        """See `SubjectTables.predict`."""
        return await asyncio.to_thread((await self._tables()).predict, embeddings, voxels)

    async def captions(self, voxels: Sequence[int], partitions: bool) -> pa.Table:
        """See `SubjectTables.captions`."""
        return await asyncio.to_thread((await self._tables()).captions, voxels, partitions=partitions)

    async def prompts(self, voxels: Sequence[int]) -> list[str]:
        """See `SubjectTables.prompts`."""
        return (await self._tables()).prompts(voxels)

    async def projections(self, voxels: Sequence[int]) -> pa.Table:
        """See `SubjectTables.projections`."""
        return await asyncio.to_thread((await self._tables()).projections, voxels)

    async def rank(self, text_QD: npt.NDArray[np.float32], limit: int | None) -> pa.Table:
        """See `SubjectTables.rank`."""
        return await asyncio.to_thread((await self._tables()).rank, text_QD, limit)

    async def details(self, voxel: int) -> dict[str, Any]:
        """See `SubjectTables.details`."""
        return await asyncio.to_thread((await self._tables()).details, voxel)
