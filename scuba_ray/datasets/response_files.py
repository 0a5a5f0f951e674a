"""One file of single-trial responses, whatever kind it is: how many trials of which shape, and some places of some trials.

    .npy  .npz:KEY  .h5:KEY  .zarr:KEY    an array of two axes, trials by places or places by trials
    .parquet[:COLUMN]                     a row per trial (or place): number columns, or one column of lists
    .nii  .nii.gz  .mgh  .mgz             volume after volume
    .func.gii                             array after array, or one of two axes; read whole
    .dscalar.nii  .dtseries.nii           CIFTI: maps by grayordinates

What a format allows to be left on disk stays there: of an array only the rows of a session are read (of places by trials its
columns), of volumes one pass keeps the voxels that are asked for. An .npz and a GIfTI are read whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets.parquet_array import ParquetArray
from scuba_ray.datasets.places import Place, readable
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.datasets.stored_array import open_npy
from scuba_ray.datasets.volumes import Volumes, open_volumes
from scuba_ray.datasets.zarr_folders import open_zarr
from scuba_ray.errors import ConfigError, DataError

_HDF5, _PARQUET = (".h5", ".hdf5"), (".parquet", ".pq")
_WITH_KEY = re.compile(r"(.+?\.(?:npz|h5|hdf5|zarr|parquet|pq))(?::(.+))?", re.IGNORECASE)
KINDS = ".npy, .npz:KEY, .h5:KEY, .zarr:KEY, .parquet, .nii[.gz], .mgh, .mgz, .func.gii, .dscalar.nii or .dtseries.nii"


class ResponseFile(Protocol):
    """One file, open; its numbers are those stored, scaled as the file's own header says."""

    @property
    def path(self) -> Place:
        """Where it lies."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one trial: (X, Y, Z), or (places,)."""
        ...

    @property
    def trials(self) -> int:
        """How many there are."""
        ...

    @property
    def whole_numbers(self) -> bool:
        """Whether values are stored as whole numbers without a scale: somebody has to say what one stands for."""
        ...

    def read(self, row_T: npt.NDArray[np.int64], place_V: npt.NDArray[np.int64], memory: int) -> npt.NDArray[np.float32]:
        """Some trials (T, V) at some places, float32; `memory` bytes besides. Rows rise. DataError if the file is damaged."""
        ...


@dataclass(frozen=True)
class ArrayFile:
    """An array of two axes (or what is sliced like one)."""

    path: Place
    array: Any
    trials_axis: int | None
    """0 or 1; None where nobody has said yet."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(places,)."""
        return (int(self.array.shape[1 - self._axis]),)

    @property
    def trials(self) -> int:
        """How many there are."""
        return int(self.array.shape[self._axis])

    @property
    def whole_numbers(self) -> bool:
        """Whether values are whole numbers."""
        return bool(np.dtype(self.array.dtype).kind in "iu")

    @property
    def _axis(self) -> int:
        assert self.trials_axis is not None, "the orientation is settled before anything is asked"
        return self.trials_axis

    def read(self, row_T: npt.NDArray[np.int64], place_V: npt.NDArray[np.int64], memory: int) -> npt.NDArray[np.float32]:
        """Some trials at some places; only runs of wanted trials are read."""
        read_TV = np.empty((len(row_T), len(place_V)), np.float32)
        most = max(memory // (self.shape[0] * np.dtype(self.array.dtype).itemsize), 1)
        runs = np.split(np.arange(len(row_T)), np.flatnonzero(np.diff(row_T) != 1) + 1)
        try:
            for run in runs if len(row_T) else []:
                for first in range(0, len(run), most):
                    mine = run[first : first + most]
                    start, stop = int(row_T[mine[0]]), int(row_T[mine[-1]]) + 1
                    block = self.array[start:stop] if self._axis == 0 else np.asarray(self.array[:, start:stop]).T
                    read_TV[mine] = np.asarray(block)[:, place_V]
        except StoreError:
            raise
        except (OSError, ValueError, EOFError, RuntimeError, pa.ArrowException) as error:  # RuntimeError: zarr's codecs
            raise DataError(f"{self.path} is truncated or damaged: {error}") from error
        return read_TV


@dataclass(frozen=True)
class VolumeFile:
    """NIfTI or MGH."""

    volumes: Volumes

    @property
    def path(self) -> Place:
        """The file."""
        return self.volumes.path

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z), or (vertices,)."""
        shape = self.volumes.shape
        return shape[:1] if shape[1:] == (1, 1) else shape

    @property
    def trials(self) -> int:
        """How many there are."""
        return self.volumes.count

    @property
    def whole_numbers(self) -> bool:
        """Whether values are whole numbers and the header has no scale."""
        return self.volumes.dtype.kind in "iu" and (self.volumes.slope, self.volumes.inter) == (1.0, 0.0)

    def read(self, row_T: npt.NDArray[np.int64], place_V: npt.NDArray[np.int64], memory: int) -> npt.NDArray[np.float32]:
        """Some trials at some places, in one pass from the first of them to the last."""
        first, size = int(row_T[0]), int(np.prod(self.volumes.shape)) * self.volumes.dtype.itemsize
        span = replace(self.volumes, offset=self.volumes.offset + first * size, count=int(row_T[-1]) + 1 - first)
        picked_TV = span.pick(place_V, memory)
        if len(row_T) < len(picked_TV):
            picked_TV = picked_TV[row_T - first]
        picked_TV *= np.float32(self.volumes.slope)
        picked_TV += np.float32(self.volumes.inter)
        return picked_TV


def split_key(text: str) -> tuple[str, str | None]:
    """A file and what comes after the colon behind it: the array in it that is meant."""
    match = _WITH_KEY.fullmatch(text)
    return (match[1], match[2]) if match else (text, None)


def open_responses(path: Place, key: str | None) -> ResponseFile:
    """Open one file by the end of its name; of arrays the orientation is not known yet.

    Raises
    ------
    ConfigError
        If its name is of no kind that is read, or it is zarr and the package zarr is not installed.
    DataError
        If it is missing, damaged, or has no such array.
    """
    if not path.exists():
        raise DataError(f"responses: {path.name} is missing in {path.parent}")
    name = path.name.lower()
    if name.endswith((".dscalar.nii", ".dtseries.nii")):
        return ArrayFile(path, open_cifti(path).dataobj, 0)
    if name.endswith((".nii", ".nii.gz", ".mgh", ".mgz")):
        volumes = open_volumes(path)
        volumes.check_whole()
        return VolumeFile(volumes)
    if name.endswith(".gii"):
        return ArrayFile(path, _gifti_trials(path), 0)
    array = open_array(path, key)
    if len(array.shape) != 2:
        raise DataError(f"{path} has shape {tuple(array.shape)}, wanted two axes: trials and voxels")
    if np.dtype(array.dtype).kind not in "iuf":
        raise DataError(f"{path} holds {array.dtype}, wanted numbers")
    return ArrayFile(path, array, None)


def open_array(path: Place, key: str | None) -> Any:
    """An array in a file, on disk as far as the format allows; errors as in `open_responses`."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return open_npy(path)
        if suffix == ".npz":
            with np.load(readable(path), allow_pickle=False) as arrays:
                return arrays[_only(path, list(arrays), key)]
        if suffix in _HDF5:
            import h5py

            file = h5py.File(readable(path), "r", locking=False)  # it is only read, and network disks may refuse locks
            return file[_only(path, _data_sets(file), key)]
        if suffix in _PARQUET:
            return ParquetArray(path, key)
        if suffix == ".zarr":
            return open_zarr(path, lambda there: _only(path, there, key))
    except StoreError:
        raise
    except (OSError, ValueError, EOFError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read, or is not whole: {error}") from error
    raise ConfigError(f"{path} is of no kind that is read; wanted {KINDS}")


def _only(path: Place, there: list[str], key: str | None) -> str:
    """The array that is meant: the one named, or the only one there is."""
    if key is None and len(there) == 1:
        return there[0]
    if key is None or key.strip("/") not in there:
        wanted = "say which one is meant" if key is None else f"there is no {key!r}"
        raise DataError(f"{path} holds {', '.join(there) or 'nothing'}: {wanted}, as {path.name}:{there[0] if there else 'KEY'}")
    return key.strip("/")


def _data_sets(file: Any) -> list[str]:
    """Names of all data sets of an HDF5 file."""
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if hasattr(item, "shape") else None)
    return found


def open_cifti(path: Place) -> Any:
    """A CIFTI file's image. Raises DataError if it is none."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path) if isinstance(path, Path) else nibabel.Cifti2Image.from_stream(path.open())
    except StoreError:
        raise
    except (ImageFileError, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable CIFTI file: {error}") from error
    if not isinstance(image, nibabel.Cifti2Image):
        raise DataError(f"{path} is {type(image).__name__}, wanted CIFTI-2 by its name")
    stored = image.nifti_header.get_data_dtype().itemsize * int(np.prod(image.shape))
    if path.stat().st_size < stored:
        raise DataError(f"{path} is truncated: it has {path.stat().st_size:,} bytes, its header promises {stored:,} and more")
    return image


def open_gifti(path: Place) -> Any:
    """A GIfTI file's image, read whole. Raises DataError if it is none."""
    from xml.parsers.expat import ExpatError

    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path) if isinstance(path, Path) else nibabel.GiftiImage.from_stream(path.open())
    except StoreError:
        raise
    except (ImageFileError, ExpatError, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable GIfTI file, or not whole: {error}") from error
    if not image.darrays:
        raise DataError(f"{path} holds no data array")
    return image


def _gifti_trials(path: Place) -> npt.NDArray[np.generic]:
    """Data arrays of one axis are a trial each; a single one of two axes is (vertices, trials)."""
    arrays = [one.data for one in open_gifti(path).darrays]
    if len(arrays) == 1 and arrays[0].ndim == 2:
        return np.ascontiguousarray(arrays[0].T)
    if any(one.shape != arrays[0].shape or one.ndim != 1 for one in arrays):
        raise DataError(
            f"{path} holds arrays of shapes {sorted({one.shape for one in arrays})}, wanted one value per vertex each"
        )
    return np.stack(arrays)
