"""Arrays of the zarr format (versions 2 and 3), by the package zarr where it is installed: read chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scuba_ray.datasets.places import Place
from scuba_ray.datasets.store_paths import StorePath
from scuba_ray.errors import ConfigError


class _OnStore:
    """An array on a store: what fails there is the store's fault, not the array's."""

    def __init__(self, path: StorePath, array: Any) -> None:
        self._path, self._array = path, array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: Any) -> Any:
        with self._path.reached():
            return self._array[key]


def open_zarr(path: Place, choose: Callable[[list[str]], str]) -> Any:
    """An array; `choose` names it where there is a group of them. ConfigError without the package, else what zarr raises."""
    try:
        import zarr  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError(
            f"{path} needs the package zarr, which is not installed: pip install zarr, or convert to HDF5"
        ) from error
    if isinstance(path, Path):
        return _chosen(zarr.open(str(path), mode="r"), choose)
    with path.reached():
        return _OnStore(path, _chosen(zarr.open(_mapping(path), mode="r"), choose))


def _chosen(opened: Any, choose: Callable[[list[str]], str]) -> Any:
    return opened if hasattr(opened, "shape") else opened[choose(sorted(opened.array_keys()))]


def _mapping(path: StorePath) -> Any:
    """What is below a place, as fsspec gives it to zarr."""
    from fsspec.implementations.arrow import ArrowFSWrapper

    class Store(ArrowFSWrapper):  # type: ignore[misc, unused-ignore]
        fsid = path.store
        """fsspec's own asks for a host, which only HDFS has."""

    filesystem, inside = path.on_filesystem()
    return Store(filesystem).get_mapper(inside)
