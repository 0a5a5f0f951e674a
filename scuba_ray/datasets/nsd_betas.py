"""A session's betas: NIfTI streamed once, HDF5 read where the mask is, MGH per hemisphere; in percent signal change.

NSD's volumes are int16, 300 times the percent signal change; the betas on fsaverage are floating-point numbers already. What a
file holds is told from its header: whole numbers without a scale of their own are divided by 300, whole numbers with one follow
it, floating-point numbers stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.nsd_folder import NsdFolder, SessionFiles
from scuba_ray.datasets.places import Place, readable
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.datasets.volumes import Volumes, open_volumes
from scuba_ray.errors import DataError

STORED = 300
"""int16 betas are this many times the percent signal change (NSD data manual)."""
KEY = "betas"
_WHOLE = 100.0
"""Floating-point betas that are whole numbers beyond this were never divided."""


@dataclass(frozen=True)
class Header:
    """What a session's files say of themselves: shape (X, Y, Z), or (vertices,) of a hemisphere; trials; storage."""

    shape: tuple[int, ...]
    trials: int
    stored: str
    factor: float
    """Stored values are multiplied by this and"""
    inter: float
    """this is added."""
    affine: npt.NDArray[np.float64] | None


def read_header(files: SessionFiles) -> Header:
    """Read the headers of a session's files.

    Raises
    ------
    DataError
        If a file is unreadable, has the wrong number of axes, or two hemispheres differ.
    """
    headers = [_of_hdf5(path) if files.format == "hdf5" else _of_volumes(open_volumes(path), files) for path in files.paths]
    for path, header in zip(files.paths, headers, strict=True):
        if (header.shape, header.trials) != (headers[0].shape, headers[0].trials):
            raise DataError(
                f"{path} has {header.shape} values and {header.trials} trials, {files.paths[0].name} has {headers[0].shape} and "
                f"{headers[0].trials}"
            )
    return headers[0]


def read_betas(files: SessionFiles, voxel_V: npt.NDArray[np.int64], memory: int) -> npt.NDArray[np.float32]:
    """Betas (T, V) of some voxels, float32, percent signal change. Memory: the result and about `memory` bytes.

    Parameters
    ----------
    voxel_V : array of int64
        Flat indices, rising: into the volume with the last axis fastest, or into the left hemisphere followed by the right.

    Raises
    ------
    DataError
        If a file is truncated or damaged, or holds floating-point numbers that were never divided.
    """
    header = read_header(files)
    if files.format == "hdf5":
        betas_TV = _pick_hdf5(files.paths[0], header.shape, voxel_V, memory)
    elif files.format == "nifti":
        betas_TV = open_volumes(files.paths[0]).pick(voxel_V, memory)
    else:
        parts, start = [], 0
        for path in files.paths:
            mine = voxel_V[(voxel_V >= start) & (voxel_V < start + header.shape[0])] - start
            parts.append(open_volumes(path).pick(mine, memory))
            start += header.shape[0]
        betas_TV = np.concatenate(parts, axis=1)
    if header.factor == 1 and betas_TV.size:
        _check_percent(files.paths[0], betas_TV[0])
    betas_TV *= np.float32(header.factor)
    if header.inter:
        betas_TV += np.float32(header.inter)
    return betas_TV


def check_session(folder: NsdFolder, files: SessionFiles, header: Header, shape: tuple[int, ...], trials: int) -> None:
    """Raise DataError unless a session is whole, with the first session's shape and one volume for each trial of the design."""
    for one in files.paths if files.format != "hdf5" else ():
        open_volumes(one).check_whole()
    path = files.paths[0]
    if header.shape != shape:
        raise DataError(
            f"{path} has shape {header.shape}, but the first session of {folder.name} has {shape}: is it another subject's?"
        )
    if header.trials != trials:
        raise DataError(
            f"{path} has {header.trials} trials, but {folder.design.name} shows {trials} images in session {files.session}"
        )


def _of_volumes(volumes: Volumes, files: SessionFiles) -> Header:
    shape = volumes.shape
    if files.format == "mgh":
        if shape[1:] != (1, 1):
            raise DataError(f"{volumes.path} has shape {shape}, wanted (vertices, 1, 1, trials)")
        return Header(shape[:1], volumes.count, volumes.dtype.name, *_scale(volumes.dtype, volumes.slope, volumes.inter), None)
    if min(shape) < 2 or volumes.count < 2:
        raise DataError(f"{volumes.path} has shape {(*shape, volumes.count)}, wanted (X, Y, Z, trials)")
    return Header(shape, volumes.count, volumes.dtype.name, *_scale(volumes.dtype, volumes.slope, volumes.inter), volumes.affine)


def _scale(dtype: np.dtype[Any], slope: float, inter: float) -> tuple[float, float]:
    if dtype.kind in "iu" and (slope, inter) == (1.0, 0.0):
        return 1 / STORED, 0.0
    return slope, inter


def _of_hdf5(path: Place) -> Header:
    with _open_hdf5(path) as file:
        if KEY not in file:
            raise DataError(f"{path} has no data set {KEY!r}; it has {', '.join(file) or 'none'}")
        shape, dtype = file[KEY].shape, file[KEY].dtype
    if len(shape) != 4:
        raise DataError(f"{path}: {KEY} has shape {shape}, wanted (trials, Z, Y, X)")
    return Header(shape[:0:-1], shape[0], dtype.name, *_scale(dtype, 1.0, 0.0), None)


def _open_hdf5(path: Place) -> Any:
    import h5py

    try:
        return h5py.File(readable(path), "r", locking=False)  # it is only read, and network disks may refuse locks
    except StoreError:
        raise
    except OSError as error:
        raise DataError(f"{path} is no readable HDF5 file, or not whole: {error}") from error


def _pick_hdf5(path: Place, shape: tuple[int, ...], voxel_V: npt.NDArray[np.int64], memory: int) -> npt.NDArray[np.float32]:
    """Voxels of `betas` (T, Z, Y, X): rows along X where chunks hold a voxel's trials (as NSD's), else some trials at once."""
    x_V, y_V, z_V = np.unravel_index(voxel_V, shape)
    with _open_hdf5(path) as file:
        betas = file[KEY]
        trials = len(betas)
        picked_TV = np.empty((trials, len(voxel_V)), np.float32)
        try:
            if betas.chunks is not None and betas.chunks[0] * 2 > trials:
                row_V = z_V * shape[1] + y_V
                order = np.argsort(row_V, kind="stable")
                for mine in np.split(order, np.flatnonzero(np.diff(row_V[order])) + 1):
                    if len(mine):
                        first, last = int(x_V[mine].min()), int(x_V[mine].max())
                        row_TX = betas[:, int(z_V[mine[0]]), int(y_V[mine[0]]), first : last + 1]
                        picked_TV[:, mine] = row_TX[:, x_V[mine] - first]
            else:
                step = max(memory // (int(np.prod(shape)) * betas.dtype.itemsize), 1)
                for start in range(0, trials, step):
                    picked_TV[start : start + step] = betas[start : start + step][:, z_V, y_V, x_V]
        except StoreError:
            raise
        except OSError as error:
            raise DataError(f"{path} is truncated or damaged: {error}") from error
    return picked_TV


def _check_percent(path: Place, trial_V: npt.NDArray[np.float32]) -> None:
    """Raise DataError if floating-point betas are int16 ones that somebody converted without dividing them."""
    known = trial_V[np.isfinite(trial_V)]
    if len(known) and (known == np.round(known)).all() and np.abs(known).max() > _WHOLE:
        raise DataError(
            f"{path} holds floating-point numbers that are whole (up to {np.abs(known).max():.0f}): NSD's int16 betas that were "
            f"never divided by {STORED}; divide them, or use NSD's own file"
        )
