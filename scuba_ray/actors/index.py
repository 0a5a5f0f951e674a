"""An actor that holds a bank's index and answers which pictures are nearest to directions: for analyses and services.

`start_index` starts one on the Ray this process is connected to; whoever has what it returns shares it, in other actors too. The
directions of a call are searched together, so a call is a batch, and calls wait their turn. A lost actor is replaced a bounded
number of times, loads the index again (it is memory-mapped) and answers what it had not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from scuba_ray.actors import cluster
from scuba_ray.actors.room import room_for
from scuba_ray.bank.index import BankIndex, info_of
from scuba_ray.bank.shards import BankFolder, open_bank
from scuba_ray.errors import ScubaError, WorkerError
from scuba_ray.protocols import Backbone, Resources

NEAREST = pa.schema(
    [
        ("query", pa.int32()),
        ("rank", pa.int32()),
        ("row", pa.int64()),
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("cosine", pa.float32()),
    ]
)
"""An answer: for each query (numbered as they were asked) its nearest pictures from rank 0 on, and their rows in the bank."""


@dataclass(frozen=True)
class IndexActor:
    """The way to a running actor. Travels to other actors."""

    handle: Any

    def nearest(self, direction_QD: npt.NDArray[np.float32], k: int) -> pa.Table:
        """The nearest pictures of each direction, as a table of schema `NEAREST`; fewer than `k` where the index finds no more.

        Parameters
        ----------
        direction_QD : array of shape (Q, D)
            Unit rows. Fewer and larger calls are faster.

        Raises
        ------
        ConfigError
            If directions have another length than the bank's embeddings, or the worker lacks FAISS.
        DataError
            If a file of index or bank is damaged.
        WorkerError
            If the actor is lost more often than it is replaced.
        """
        try:
            found: pa.Table = ray.get(self.handle.nearest.remote(direction_QD, k))
        except RayTaskError as error:
            if isinstance(error.cause, ScubaError):
                raise error.cause from None
            raise WorkerError(f"the index could not be searched: {error}") from error
        except RayError as error:
            raise WorkerError(
                f"the index's worker was lost more often than it is replaced: {cluster.first_line(error)}"
            ) from error
        return found

    def stop(self) -> None:
        """End the actor, whatever it is doing."""
        ray.kill(self.handle)


def start_index(
    location: str,
    backbone: Backbone,
    *,
    device: str = "cpu",
    threads: int = 1,
    resources: Resources | None = None,
    retries: int = 2,
) -> IndexActor:
    """Start an actor for the index of the bank that `backbone` made at `location`.

    Parameters
    ----------
    device : str
        `cpu`, or `cuda` to search on a GPU (`resources` reserve it).
    threads : int
        Threads of a search.
    retries : int
        How often a lost actor is replaced.

    Raises
    ------
    ConfigError
        If there is no such bank, it has no index in its present state, or the cluster has no room.
    """
    bank = open_bank(location, backbone)
    info_of(bank)
    resources = resources or Resources(cpus=float(threads), gpus=1.0 if device.startswith("cuda") else 0.0)
    room_for("index", 1, resources)
    actor = ray.remote(Searcher).options(
        max_restarts=retries,
        max_task_retries=retries,
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        memory=resources.memory,
    )
    return IndexActor(actor.remote(bank, device, threads))


class Searcher:
    """The actor. It opens the index with its first question: an error raised here would be taken for a lost worker."""

    def __init__(self, bank: BankFolder, device: str, threads: int) -> None:
        self._bank = bank
        self._how: dict[str, Any] = {"device": device, "threads": threads}
        self._index: BankIndex | None = None

    def nearest(self, direction_QD: npt.NDArray[np.float32], k: int) -> pa.Table:
        """See `IndexActor.nearest`."""
        self._index = self._index or BankIndex(self._bank, **self._how)
        cos_Qk, row_Qk = self._index.nearest(direction_QD, k)
        return nearest_table(self._bank, cos_Qk, row_Qk)


def nearest_table(bank: BankFolder, cos_Qk: npt.NDArray[np.float32], row_Qk: npt.NDArray[np.int64]) -> pa.Table:
    """What a search found, as a table of schema `NEAREST`; places without a row (-1) are left out."""
    query_N, rank_N = np.nonzero(row_Qk >= 0)
    row_N = row_Qk[query_N, rank_N]
    columns = {
        "query": query_N,
        "rank": rank_N,
        "row": row_N,
        "image_id": bank.ids(row_N),
        "uri": bank.ids(row_N, "uri"),
        "cosine": cos_Qk[query_N, rank_N],
    }
    return pa.table(columns, schema=NEAREST)
