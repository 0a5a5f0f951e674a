"""Arrays of the zarr format (versions 2 and 3), by the package zarr where it is installed: read chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scuba_ray.datasets.places import Place
from scuba_ray.errors import ConfigError


def open_zarr(path: Place) -> Any:
    """An array or a group of arrays. ConfigError if the package is not installed; else what zarr raises."""
    try:
        import zarr  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError(
            f"{path} needs the package zarr, which is not installed: pip install zarr, or convert to HDF5"
        ) from error
    if isinstance(path, Path):
        return zarr.open(str(path), mode="r")
    from fsspec.implementations.arrow import ArrowFSWrapper

    filesystem, inside = path.on_filesystem()
    with path.reached():
        return zarr.open(ArrowFSWrapper(filesystem).get_mapper(inside), mode="r")
