"""Both engines, each started once; Ray takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scuba_ray.actors.cluster import Cluster
from scuba_ray.config import EngineConfig
from scuba_ray.protocols import Engine
from scuba_ray.registry import resolve
from scuba_ray.tables.store import RunFolder


@pytest.fixture(scope="session", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with resolve("engine", request.param)(EngineConfig(name=request.param, max_workers=1, retries=1)) as started:
        yield started


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    """A Ray of this process, for what is used without an engine."""
    cluster = Cluster(None)
    cluster.start()
    yield
    cluster.stop()
