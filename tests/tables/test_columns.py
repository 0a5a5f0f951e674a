"""Columns and arrays are the same numbers, and what is missing is null."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.tables.columns import matrix, numbers, table_of, vectors


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_vectors_come_back(kind: type) -> None:
    array_ND = np.random.default_rng(0).normal(size=(5, 3)).astype(kind)
    column = vectors(array_ND)
    assert column.type == pa.list_(pa.from_numpy_dtype(kind), 3)
    np.testing.assert_array_equal(matrix(column), array_ND)
    np.testing.assert_array_equal(matrix(pa.chunked_array([column.slice(1, 2), column.slice(4)])), array_ND[[1, 2, 4]])
    assert matrix(column.slice(0, 0)).shape == (0, 3)


def test_vectors_of_no_rows_keep_their_length() -> None:
    assert vectors(np.empty((0, 7), np.float32)).type == pa.list_(pa.float32(), 7)


def test_a_row_that_is_not_valid_is_null() -> None:
    column = vectors(np.ones((3, 2), np.float32), np.array([True, False, True]))
    assert column.to_pylist() == [[1, 1], None, [1, 1]]


def test_numbers_know_no_nan() -> None:
    column = numbers(np.array([1, np.nan, np.inf, -np.inf, 2]), np.array([True, True, True, True, False]))
    assert column.to_pylist() == [1, None, None, None, None]
    assert column.type == pa.float32()


def test_table_of_fills_constants_and_nulls() -> None:
    schema = pa.schema([("subject", pa.string()), ("n", pa.int32()), ("share", pa.float32())])
    table = table_of(schema, {"n": [1, 2], "subject": "s"})
    assert table.schema == schema
    assert table.to_pylist() == [{"subject": "s", "n": 1, "share": None}, {"subject": "s", "n": 2, "share": None}]


def test_table_of_refuses_columns_of_different_lengths() -> None:
    with pytest.raises(AssertionError):
        table_of(pa.schema([("a", pa.int32()), ("b", pa.int32())]), {"a": [1], "b": [1, 2]})
