"""NearestImages: the pictures of the run's bank that are nearest to directions, by the bank's index or an exact one made here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from scuba_ray.actors.index import NEAREST, nearest_table
from scuba_ray.bank.index import BankIndex, describe, faiss_module
from scuba_ray.bank.shards import BankFolder
from scuba_ray.config import RunConfig
from scuba_ray.config.serve import ServeConfig
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.errors import ConfigError
from scuba_ray.serve.opening import bank_of, captioned_backbone, directions
from scuba_ray.serve.replica import Outcome, Replica, gathered

Asked = tuple[npt.NDArray[np.float32], int]
"""A direction, and how many pictures are wanted."""
Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Cosines and rows."""

PASS = 32
"""Directions searched for together, filled up with the last one: FAISS multiplies fewer in another way, to other last bits."""
_TILE = 8192


class NearestImages(Replica):
    """One replica: the index. It searches on a GPU if `nearest.gpus` reserves one."""

    def __init__(self, settings: ServeConfig, config: RunConfig) -> None:
        """Open the index, or make one.

        Raises
        ------
        ConfigError
            If FAISS is not there, or the bank has no index and is too large to make one here.
        """
        super().__init__(settings.nearest, settings.threads, self._search)
        self._bank = bank_of(settings, config, captioned_backbone(config))
        self._dim = int(self._bank.metadata["dim"])
        self._nearest: Callable[[npt.NDArray[np.float32], int], Found]
        known = describe(self._bank)
        if known is not None and known["present"]:
            device = "cuda" if settings.nearest.gpus else "cpu"
            self._nearest = BankIndex(self._bank, device=device, threads=settings.threads).nearest
        else:
            self._nearest = _exact(self._bank, self._dim, config.project.hold_gib, settings.threads).search
        # reads the index, and says here if it cannot be read
        self._found([(np.eye(1, self._dim, dtype=np.float32)[0], 1)])

    async def nearest(self, direction_QD: npt.NDArray[np.float32], k: int) -> pa.Table:
        """The nearest pictures of each direction (of any length), as `actors.index.NEAREST`; fewer where no more are found.

        Raises
        ------
        DataError
            If directions have another length than the bank's embeddings, or are zero or not finite.
        ConfigError
            If k is not in what the index can search for.
        """
        direction_QD = directions("directions", direction_QD, self._dim)
        if k < 1:
            raise ConfigError(f"k, the number of nearest pictures, must be at least 1, got {k}")
        unit_QD = unit_and_norm(torch.from_numpy(direction_QD))[0].numpy()
        found = await self.ask(self._search, [(unit_D, k) for unit_D in unit_QD])
        tables = [one.set_column(0, "query", pa.array([query] * len(one), pa.int32())) for query, one in enumerate(found)]
        return pa.concat_tables([NEAREST.empty_table(), *tables]).combine_chunks()

    @gathered
    async def _search(self, calls: list[list[Asked]]) -> list[Outcome[pa.Table]]:
        return await self.compute(self._found, calls)

    def _found(self, asked: list[Asked]) -> list[pa.Table]:
        """The rows of each direction."""
        found: dict[int, pa.Table] = {}
        for k in sorted({k for _, k in asked}):
            places = [place for place, (_, wanted) in enumerate(asked) if wanted == k]
            table = self._table(np.stack([asked[place][0] for place in places]), k)
            counts = np.bincount(table["query"].to_numpy(), minlength=len(places))
            starts = np.cumsum(counts) - counts
            found |= {place: table.slice(*run) for place, run in zip(places, zip(starts, counts, strict=True), strict=True)}
        return [found[place] for place in range(len(asked))]

    def _table(self, unit_QD: npt.NDArray[np.float32], k: int) -> pa.Table:
        filled_QD = np.concatenate([unit_QD, np.repeat(unit_QD[-1:], -len(unit_QD) % PASS, axis=0)])
        passes = [self._nearest(filled_QD[start : start + PASS], k) for start in range(0, len(filled_QD), PASS)]
        cos_Qk, row_Qk = (np.concatenate(values)[: len(unit_QD)] for values in zip(*passes, strict=True))
        return nearest_table(self._bank, cos_Qk, row_Qk)


def _exact(bank: BankFolder, dim: int, hold_gib: float, threads: int) -> Any:
    """A flat FAISS index of the bank's unit embeddings: `rows * dim * 4` bytes."""
    needed = bank.rows * dim * 4 / 2**30
    if needed > hold_gib:
        raise ConfigError(
            f"the bank at {bank.location} has no index, and an exact one takes {needed:.1f} GiB of each replica, more than "
            f"project.hold_gib ({hold_gib:g}): build one with `scuba bank index`"
        )
    faiss = faiss_module()
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(dim)
    for tile in bank.tiles(_TILE):
        index.add(unit_and_norm(torch.tensor(tile.embedding_KD))[0].numpy())
    return index
