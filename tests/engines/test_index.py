"""An actor that answers for nearest pictures: what it finds, that it survives a kill, what it says of errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from scuba_ray.actors.index import NEAREST, IndexActor, start_index
from scuba_ray.bank.index import stem
from scuba_ray.bank.index_build import build_index, like_voxels
from scuba_ray.bank.shards import BankFolder
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Resources
from tests.bank.test_shards import Named, write_bank

pytestmark = pytest.mark.usefixtures("connected")

pytest.importorskip("faiss")
NETWORK = Named(dim=16)
SMALL = Resources(cpus=0.25)


@pytest.fixture
def bank(tmp_path: Path) -> BankFolder:
    write_bank(tmp_path, (200, 100), NETWORK)
    bank = BankFolder(str(tmp_path), "small", ("small",))
    build_index(bank)
    return bank


@pytest.fixture
def actor(bank: BankFolder) -> Iterator[IndexActor]:
    started = start_index(bank.location, NETWORK, resources=SMALL)
    yield started
    started.stop()


def test_it_answers_with_ids_cosines_and_uris_and_survives_a_kill(bank: BankFolder, actor: IndexActor) -> None:
    query_QD = like_voxels(bank, 9, seed=2)
    first = actor.nearest(query_QD, 5)
    assert first.schema.equals(NEAREST) and len(first) == 45
    rows_KD = np.concatenate([tile.embedding_KD for tile in bank.tiles(500)]).astype(np.float32)
    cos_QK = query_QD @ (rows_KD / np.linalg.norm(rows_KD, axis=1, keepdims=True)).T
    best_Qk = np.argsort(-cos_QK, axis=1)[:, :5]
    assert first["image_id"].to_pylist() == [f"image{row}" for row in best_Qk.ravel()]
    np.testing.assert_allclose(first["cosine"], np.take_along_axis(cos_QK, best_Qk, 1).ravel(), atol=1e-6)
    ray.kill(actor.handle, no_restart=False)
    assert actor.nearest(query_QD, 5).equals(first)


def test_another_actor_can_ask(bank: BankFolder, actor: IndexActor) -> None:
    query_QD = like_voxels(bank, 3, seed=2)
    asked = ray.remote(num_cpus=0)(lambda index: index.nearest(query_QD, 2)).remote(actor)
    assert ray.get(asked).equals(actor.nearest(query_QD, 2))


def test_errors_are_the_readers(bank: BankFolder, actor: IndexActor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"directions must have shape \(V, 16\)"):
        actor.nearest(np.zeros((2, 3), np.float32), 5)
    (tmp_path / f"{stem(bank)}.faiss").write_bytes(b"")
    other = start_index(bank.location, NETWORK, resources=SMALL)
    with pytest.raises(DataError, match="is damaged"):
        other.nearest(like_voxels(bank, 1, 0), 1)
    other.stop()
    write_bank(tmp_path / "plain", (30,), NETWORK)
    with pytest.raises(ConfigError, match="has no index for small"):
        start_index(str(tmp_path / "plain"), NETWORK)
