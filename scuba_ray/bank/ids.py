"""Picture ids by row number, for tables that name the nearest pictures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.bank.shards import BankFolder
from scuba_ray.errors import DataError

HELD_ROWS = 20_000_000
"""Largest bank whose ids a process keeps, once they have been asked for: some 25 bytes a row, half a GB at most."""


def ids_of(bank: BankFolder, rows_N: npt.NDArray[np.int64]) -> pa.Array:
    """Ids (strings) of rows of a bank, in any order, repeats allowed.

    Of banks up to `HELD_ROWS` the ids of all rows are read once per process and kept until another bank is asked for; of larger
    ones the shards that the rows lie in are read each time.

    Raises
    ------
    DataError
        If a shard is missing or damaged.
    """
    if bank.rows > HELD_ROWS:
        return pa.array(bank.ids(rows_N), pa.string())
    return _all(bank, bank.fingerprint).take(pa.array(rows_N)).cast(pa.string())


@lru_cache(maxsize=1)
def _all(bank: BankFolder, fingerprint: str) -> pa.Array:
    """The ids of a bank of this content."""
    columns = []
    for shard in bank.shards:
        try:
            with bank.open(shard) as file:
                columns += file.read(columns=["image_id"])["image_id"].chunks
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{bank.location}: shard {shard.name} is damaged: {error}; build the bank again") from error
    return pa.concat_arrays([column.cast(pa.large_string()) for column in columns])
