"""scuba_ray: a caption for every voxel of the visual cortex, on a laptop or a cluster.

Public names are loaded when they are first used: importing the package loads neither ray nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "RunConfig": "scuba_ray.config",
    "load_config": "scuba_ray.config",
    "run": "scuba_ray.pipeline",
    "RunFolder": "scuba_ray.tables.store",
    "ScubaError": "scuba_ray.errors",
}

__all__ = ["RunConfig", "RunFolder", "ScubaError", "__version__", "load_config", "run"]


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'scuba_ray' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
