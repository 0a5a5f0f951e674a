"""Shared models of the model tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny import write_tiny


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open_clip directory of a tiny random backbone (dim 24)."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny(out)
    return out
