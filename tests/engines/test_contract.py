"""What `map` means, on every engine: the same tables, the same errors, the same resuming."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import ray

from scuba_ray.config import EngineConfig
from scuba_ray.errors import ConfigError, ScubaError, WorkerError
from scuba_ray.protocols import Engine
from scuba_ray.registry import resolve
from scuba_ray.tables.store import RunFolder
from tests.engines.samples import KEY, TABLE, Squares, complete, computed, cut, files_of, forget_calls

FILES: dict[str, dict[str, bytes]] = {}
"""What each engine wrote in the test of equal bytes."""


def test_every_chunk_is_done_once_then_nothing(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    stage = Squares(tmp_path / "calls")
    receipts = complete(run, engine, stage, cut(43, 5))
    assert sorted((r.chunk.index, r.rows, r.bad_rows) for r in receipts) == [(i, 5 if i < 8 else 3, 0) for i in range(9)]
    assert all(r.seconds > 0 for r in receipts)
    assert computed(stage) == list(range(0, 43, 5))
    table = run.read(TABLE)
    assert table["voxel_id"].to_pylist() == list(range(43))
    assert table["square"].to_pylist() == [n * n for n in range(43)]
    wanted = np.stack([np.random.default_rng(n).normal(size=16) for n in range(43)]).astype(np.float32)
    np.testing.assert_array_equal(np.stack(table["vector"].to_pylist()), wanted)

    before = files_of(Path(run.location))
    forget_calls(stage)
    assert complete(run, engine, stage, cut(43, 5)) == []
    assert computed(stage) == []
    assert files_of(Path(run.location)) == before


def test_failing_rows_are_quarantined_and_both_engines_write_equal_bytes(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    faults = {7: "row", 8: "row", 22: "row", 31: "disk once"}
    receipts = complete(run, engine, Squares(tmp_path / "calls", faults), cut(43, 5))
    assert {r.chunk.index: (r.rows, r.bad_rows) for r in receipts if r.bad_rows} == {1: (3, 2), 4: (4, 1)}
    assert run.read(TABLE)["voxel_id"].to_pylist() == [n for n in range(43) if n not in (7, 8, 22)]
    assert [tuple(row.values()) for row in run.quarantine().to_pylist()] == [
        ("square", KEY, f"row={n}", f"ValueError: {n} has no square") for n in (7, 8, 22)
    ]
    FILES[engine.name] = files_of(tmp_path / "run")
    assert len(FILES[engine.name]) == 9 + 2 + 1
    if len(FILES) == 2:
        assert FILES["local"] == FILES["ray"]


def test_a_configuration_error_stays_one_and_what_was_finished_is_kept(engine: Engine, run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        complete(run, engine, Squares(tmp_path / "calls", {39: "config"}), cut())
    assert str(caught.value) == "square.of must not be seven, got 7"
    kept = len(list((Path(run.location) / TABLE).glob("*.parquet")))
    assert kept > 0
    stage = Squares(tmp_path / "calls again")
    assert len(complete(run, engine, stage, cut())) == 8 - kept == len(computed(stage))
    assert run.read(TABLE)["voxel_id"].to_pylist() == list(range(40))


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (
            dict.fromkeys(range(10, 15), "row"),
            "square: every row of chunk 2 (5 rows) failed; the first: row=10: ValueError: 10 has",
        ),
        (
            {7: "memory"},
            "square failed on chunk 1 (rows 5 to 10): MemoryError: too large. Finished chunks are kept; running again",
        ),
        ({-1: "setup"}, "square failed on setting up a worker: RuntimeError: no weights"),
    ],
)
def test_an_unexpected_error_says_step_chunk_and_reason(
    engine: Engine, run: RunFolder, tmp_path: Path, faults: dict[int, str], words: str
) -> None:
    with pytest.raises(ScubaError) as caught:
        complete(run, engine, Squares(tmp_path / "calls", faults), cut())
    assert type(caught.value) is WorkerError
    assert str(caught.value).startswith(words)


def test_no_chunks_are_no_work(engine: Engine) -> None:
    assert list(engine.map(None, [])) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_another_cluster_is_not_taken_for_the_connected_one(engine: Engine) -> None:
    connected = ray.get_runtime_context().gcs_address
    for same in ("auto", connected):
        with resolve("engine", "ray")(EngineConfig(name="ray", address=same)):
            assert ray.is_initialized()
    assert ray.is_initialized()
    with socket.create_server(("", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"connected to the Ray cluster at .* already, not to {address}"):
            resolve("engine", "ray")(EngineConfig(name="ray", address=address)).__enter__()
    with pytest.raises(ConfigError, match="cannot join a Ray cluster"):
        resolve("engine", "ray")(EngineConfig(name="ray", address=address)).__enter__()
