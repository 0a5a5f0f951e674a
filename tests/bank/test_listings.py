"""The record of what a collection is made of: slices of it are slices of the source's listing, in the order they came."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from scuba_ray.bank import listings
from scuba_ray.bank.listings import Listing, collection_name, files_of, listed, record
from scuba_ray.errors import ConfigError, DataError


def files(count: int) -> pa.Table:
    return pa.table({"name": [f"folder {row}/é.png" for row in range(count)], "bytes": list(range(count))})


def listing(collection: str, *earlier: str) -> Listing:
    return Listing(collection, "/pictures", "folder", "", "content", earlier)


@pytest.mark.parametrize("group", [4, 1000])
def test_any_slice_is_what_slicing_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(listings, "_GROUP", group)
    made = record(str(tmp_path), listing("a b+1"), files(23))
    assert (made.files, made.bytes, made.name) == (23, sum(range(23)), "a b")
    for start in range(0, 24, 3):
        for stop in range(start, 24, 5):
            assert files_of(str(tmp_path), "a b+1", start, stop).equals(files(23).slice(start, stop - start))
    assert files_of(str(tmp_path), "a b+1").equals(files(23))


def test_collections_are_in_the_order_they_came(tmp_path: Path) -> None:
    assert listed(str(tmp_path)) == []
    made = [record(str(tmp_path), listing(*names), files(2)) for names in (("z",), ("b", "z"), ("a", "z", "b"))]
    assert listed(str(tmp_path)) == made


def test_its_fingerprint_is_of_names_sizes_content_and_prefix_and_not_of_the_place(tmp_path: Path) -> None:
    one = record(str(tmp_path), listing("a"), files(5))
    changed = [
        record(str(tmp_path), listing("a"), files(4)),
        record(str(tmp_path), listing("a"), files(5).set_column(1, "bytes", pa.array([9, 1, 2, 3, 4]))),
        record(str(tmp_path), Listing("a", "/pictures", "folder", "p", "content", ()), files(5)),
        record(str(tmp_path), Listing("a", "/pictures", "folder", "", "other", ()), files(5)),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in changed)}) == 5
    assert record(str(tmp_path), Listing("b", "/moved", "folder", "", "content", ("a",)), files(5)).fingerprint == one.fingerprint


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record(str(tmp_path), listing("a"), files(5))
    (tmp_path / "listings" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"listings/a\.parquet cannot be read"):
        listed(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "place", "name"),
    [
        (None, "/data/my pictures", "my-pictures"),
        (None, "s3://bucket/laion", "laion"),
        (None, "/data/.cache (old)", "cache-old"),
        ("mine", "/", "mine"),
        (None, "/data/名", None),
        (None, "/", None),
        ("a/b", "/data/x", None),
        ("a+1", "/data/x", None),
    ],
)
def test_a_collection_is_called_after_its_place_or_as_the_user_says(given: str | None, place: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ConfigError, match="--collection must be letters"):
            collection_name(given, place)
    else:
        assert collection_name(given, place) == name
