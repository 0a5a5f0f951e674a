from __future__ import annotations

import pytest

from tests.report.synthetic import Written, write_run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A finished run of 60 voxels, read by all tests here."""
    return write_run(tmp_path_factory.mktemp("synthetic"))
