"""A Parquet table as an array of two axes: number columns side by side, or one column of lists, read by row groups."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.datasets.places import Place, readable
from scuba_ray.errors import DataError


class ParquetArray:
    """Sliced like an array: only row groups that hold some of the wanted rows are read.

    Raises
    ------
    DataError
        If `column` is no column of lists, or there are several and none is named.
    """

    def __init__(self, path: Place, column: str | None) -> None:
        self._file = pq.ParquetFile(readable(path))
        schema = self._file.schema_arrow
        lists = [field.name for field in schema if _is_list(field.type)]
        if column is not None or len(lists) == 1:
            if column is not None and column not in lists:
                raise DataError(f"{path} has no column {column!r} of lists; it has {', '.join(schema.names)}")
            self._columns = lists if column is None else [column]
            first = next(self._file.iter_batches(1, columns=self._columns), None)
            values = None if first is None else first.column(0).flatten()
            width, kind = (0, pa.float32()) if values is None else (len(values), values.type)
        elif lists:
            raise DataError(f"{path} has several columns of lists, {', '.join(lists)}: say which, as {path.name}:{lists[0]}")
        else:
            self._columns = [
                field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            ]
            width, kind = len(self._columns), schema.field(self._columns[0]).type if self._columns else pa.float32()
        self._listed = len(lists) == 1 or column is not None
        self.shape = (self._file.metadata.num_rows, width)
        self.dtype = np.dtype(kind.to_pandas_dtype())

    def __getitem__(self, key: slice | tuple[slice, slice]) -> npt.NDArray[np.generic]:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, _ = rows.indices(self.shape[0])
        parts = []
        for group, first in enumerate(self._starts):
            last = first + self._file.metadata.row_group(group).num_rows
            if first < stop and last > start:
                block = self._matrix(self._file.read_row_group(group, columns=self._columns))
                parts.append(block[max(start - first, 0) : stop - first, columns])
        return np.concatenate(parts)

    @cached_property
    def _starts(self) -> list[int]:
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist()  # type: ignore[no-any-return]

    def _matrix(self, table: pa.Table) -> npt.NDArray[np.generic]:
        if not self._listed:
            return np.stack([column.to_numpy() for column in table.columns], axis=1)
        flat = pa.chunked_array([chunk.flatten() for chunk in table[0].chunks]).to_numpy()
        if len(flat) != len(table) * self.shape[1]:
            raise ValueError(f"lists of column {self._columns[0]!r} differ in length")
        matrix: npt.NDArray[np.generic] = flat.reshape(len(table), self.shape[1])
        return matrix


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
