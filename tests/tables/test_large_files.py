"""Large files: whole or not at all, and copied once from an object store."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from scuba_ray.tables.large_files import local_copy, replacing


def test_a_file_on_an_object_store_is_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = f"fsspec+memory://bucket/{uuid.uuid4().hex}"
    with replacing(store, "index/one.faiss") as path:
        path.write_bytes(b"first")
    copy = local_copy(store, "index/one.faiss", "a")
    assert copy.read_bytes() == b"first" and copy.is_relative_to(tmp_path)
    with replacing(store, "index/one.faiss") as path:
        path.write_bytes(b"second")
    assert local_copy(store, "index/one.faiss", "a").read_bytes() == b"first"
    assert local_copy(store, "index/one.faiss", "b").read_bytes() == b"second"
    with pytest.raises(FileNotFoundError):
        local_copy(store, "index/other.faiss", "a")


def test_a_file_that_failed_half_way_replaces_nothing(tmp_path: Path) -> None:
    with replacing(str(tmp_path), "index/one") as path:
        path.write_bytes(b"whole")
    with pytest.raises(RuntimeError), replacing(str(tmp_path), "index/one") as path:
        path.write_bytes(b"ha")
        raise RuntimeError
    assert [one.name for one in (tmp_path / "index").iterdir()] == ["one"]
    assert (tmp_path / "index/one").read_bytes() == b"whole"
