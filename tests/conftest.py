"""What several folders of tests share."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.study import TinyStudy, write_study

# Ray would otherwise phone home and look for cloud metadata; nothing here needs either.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


TOGETHER = ("tests/serve/http/",)
"""Folders whose tests share what takes long to start."""


class OneServiceForAll(LoadFileScheduling):
    """A file's tests go to one worker, and so do those of the folders in `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneServiceForAll:
    """Called where tests run side by side."""
    return OneServiceForAll(config, log)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A tiny study; tests that change its files take `own_study`."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def own_study(study: TinyStudy, tmp_path: Path) -> TinyStudy:
    """A copy of the tiny study that a test may spoil."""
    copytree(study.folder, tmp_path / "own", ignore=lambda folder, names: [name for name in names if name.startswith("run")])
    return TinyStudy(tmp_path / "own")
