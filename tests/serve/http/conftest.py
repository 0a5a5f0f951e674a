"""One service for all tests here, by `scuba serve` in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scuba_ray.config import RunConfig
from scuba_ray.tables.store import RunFolder
from tests.serve.serving import SMALL, Client, Process, Served


@pytest.fixture(scope="package")
def served(finished: tuple[RunFolder, RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its service, answering."""
    run, config = finished
    errors = tmp_path_factory.mktemp("service") / "stderr"
    process = Process(run.location, "--port=0", "--set=synthesizer=true", *SMALL, errors=errors)
    try:
        yield Served(Client(process.url()), run, config)
        assert process.stop() == 0, process.said()
    finally:
        process.end()
