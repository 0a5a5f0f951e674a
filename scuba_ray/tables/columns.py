"""Between Arrow columns and arrays: vectors of fixed length, and numbers whose missing values are null, never NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def vectors(array_ND: npt.NDArray[Any], valid_N: npt.NDArray[np.bool_] | None = None) -> pa.FixedSizeListArray:
    """Rows of an array as a list column of fixed length, of the array's own float type.

    Parameters
    ----------
    array_ND : array of shape (n, dim)
    valid_N : array of bool of shape (n,), optional
        Rows where it is false become null.
    """
    values = pa.array(np.ascontiguousarray(array_ND).reshape(-1))
    mask = None if valid_N is None else pa.array(~valid_N)
    return pa.FixedSizeListArray.from_arrays(values, array_ND.shape[1], mask=mask)


def lists(array_ND: npt.NDArray[Any]) -> pa.ListArray:
    """Rows of an array as a list column of variable length, of the array's own float type."""
    rows, dim = array_ND.shape
    return pa.ListArray.from_arrays(
        pa.array(np.arange(rows + 1) * dim, pa.int32()), pa.array(np.ascontiguousarray(array_ND).reshape(-1))
    )


def matrix(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """A column of lists of one length, without nulls, as an array of shape (rows, dim)."""
    array = column
    if isinstance(column, pa.ChunkedArray):  # combining would copy a single chunk
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = np.asarray(array.flatten().to_numpy(zero_copy_only=False))
    dim = array.type.list_size if pa.types.is_fixed_size_list(array.type) else len(values) // max(len(array), 1)
    return values.reshape(len(array), dim)


def numbers(array_N: npt.NDArray[Any], valid_N: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """A float column: null where a value is NaN or infinite, or where `valid_N` is false."""
    array_N = np.asarray(array_N, dtype=np.float32)
    bad_N = ~np.isfinite(array_N)
    return pa.array(array_N, mask=bad_N if valid_N is None else bad_N | ~valid_N)


def table_of(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Columns in the order and with the types of a schema. A text or number stands for a column of it.

    A column of the schema that is not given is null throughout.
    """
    lengths = {len(column) for column in columns.values() if isinstance(column, pa.Array | pa.ChunkedArray | list | np.ndarray)}
    assert len(lengths) == 1, f"columns of different lengths: {sorted(lengths)}"
    length = lengths.pop()
    arrays = []
    for field in schema:
        column = columns.get(field.name)
        if isinstance(column, pa.ChunkedArray | pa.Array):
            arrays.append(column if column.type == field.type else column.cast(field.type))
        elif isinstance(column, list | np.ndarray):
            arrays.append(pa.array(column, field.type))
        else:
            arrays.append(pa.repeat(pa.scalar(column, field.type), length))
    return pa.Table.from_arrays(arrays, schema=schema)


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """One table; columns whose vectors differ in length between tables become lists of variable length."""
    first = tables[0].schema
    if any(not table.schema.equals(first) for table in tables[1:]):
        fields = [
            pa.field(f.name, pa.list_(f.type.value_type)) if pa.types.is_fixed_size_list(f.type) and _varies(tables, f) else f
            for f in first
        ]
        tables = [table.cast(pa.schema(fields)) for table in tables]
    return pa.concat_tables(tables)


def _varies(tables: Sequence[pa.Table], field: pa.Field) -> bool:
    return any(table.schema.field(field.name).type != field.type for table in tables)
