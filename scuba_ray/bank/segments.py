"""The bank cut into segments of a fixed number of rows, whatever the shards it lies in: the pieces that its holders hold.

Segments are cut by row number, so a projection depends neither on how shards were cut nor on who holds what. Shards are read in
order, each once for a run of segments. Memory: the segment in use, the next one (a thread reads ahead) and the shard it is cut
from, `2 * dim + 13` bytes a row, and one further segment while its rows are being sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.bank.shards import BankFolder
from scuba_ray.tables.columns import matrix

_DECODED = 2048
"""Rows decoded at a time: small enough for a CPU's cache, and each lot is let go as it is put in order."""


@dataclass(frozen=True)
class Segment:
    """Rows of a bank, sorted by partition and within a partition by their number."""

    offset: int
    """Number of the first of its rows in the bank."""
    embedding_ND: npt.NDArray[np.float16]
    """Raw, as the shards have them."""
    norm_N: npt.NDArray[np.float32]
    partition_N: npt.NDArray[np.uint8]
    index_N: npt.NDArray[np.int64]
    """Row numbers in the bank."""


@dataclass(frozen=True)
class Segments:
    """A bank in segments of `size` rows; the last may be shorter."""

    bank: BankFolder
    size: int

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-self.bank.rows // self.size)

    def rows(self, first: int, stop: int) -> int:
        """Rows of the segments `[first, stop)`."""
        return min(stop * self.size, self.bank.rows) - first * self.size

    def read(self, index: int) -> Segment:
        """One segment, on its own.

        Raises
        ------
        DataError
            If a shard is missing or damaged, or states another backbone than the first.
        """
        return next(self._cut(index, index + 1))

    def stream(self, first: int, stop: int) -> Iterator[Segment]:
        """The segments `[first, stop)` in order, the next one read while one is in use; errors as for `read`."""
        segments = self._cut(first, stop)
        with ThreadPoolExecutor(1, thread_name_prefix="segments") as reader:
            coming = reader.submit(next, segments, None)
            while (segment := coming.result()) is not None:
                coming = reader.submit(next, segments, None)
                yield segment

    def _cut(self, first: int, stop: int) -> Iterator[Segment]:
        waiting: list[pa.RecordBatch] = []
        held, offset = 0, first * self.size
        for batch in self.bank.batches(offset, min(stop * self.size, self.bank.rows), min(self.size, _DECODED)):
            wanted = min(self.size - held, len(batch))
            waiting.append(batch.slice(0, wanted))
            held += wanted
            if held == self.size:
                rest = batch.slice(wanted)
                del batch
                yield _segment(waiting, offset)
                waiting, held, offset = [rest] if len(rest) else [], len(rest), offset + self.size
        if held:
            yield _segment(waiting, offset)


def _segment(batches: list[pa.RecordBatch], offset: int) -> Segment:
    """Rows put in order as they are copied out of the batches, each of which is let go then: one copy of the embeddings."""
    partition_N = np.concatenate([batch["partition"].to_numpy() for batch in batches])
    order_N = np.argsort(partition_N, kind="stable")
    place_N = np.empty_like(order_N)
    place_N[order_N] = np.arange(len(order_N))
    norm_N = np.concatenate([batch["norm"].to_numpy() for batch in batches])[order_N]
    embedding_ND = np.empty((len(order_N), batches[0]["embedding"].type.list_size), np.float16)
    start = 0
    while batches:
        rows_ND = matrix(batches.pop(0)["embedding"])
        embedding_ND[place_N[start : start + len(rows_ND)]] = rows_ND
        start += len(rows_ND)
    pa.default_memory_pool().release_unused()  # what was decoded would otherwise stay with Arrow, segment after segment
    return Segment(offset, embedding_ND, norm_N, partition_N[order_N], order_N + offset)
