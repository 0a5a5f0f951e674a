"""Steps in a folder, on the engine a configuration names, with what `run.json` says of where they were made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from scuba_ray import __version__
from scuba_ray.config import EngineConfig
from scuba_ray.protocols import Engine
from scuba_ray.registry import resolve
from scuba_ray.tables.progress import Listener
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder

PACKAGES = ("torch", "open_clip_torch", "transformers", "ray", "pyarrow", "numpy", "Pillow", "pydantic")
"""Whose versions `run.json` records."""


def steps_in(folder: RunFolder, engine: EngineConfig, about: Mapping[str, Any], listen: Listener | None) -> Steps:
    """Steps in `folder`, on the engine that the configuration names; it is loaded when a chunk must be computed."""

    def make() -> Engine:
        made: Engine = resolve("engine", engine.name)(engine)
        return made

    versions = {package: _version(package) for package in PACKAGES}
    origin = {"scuba_ray": __version__, "python": platform.python_version(), "versions": versions}
    return Steps(folder, make, about={**about, **origin}, listen=listen)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
