"""Volumes in files: headers read alone, one volume read whole, and many volumes streamed once while only some voxels are kept.

NIfTI and MGH store a series volume after volume, so one pass over the file gives every volume's voxels in a mask with no more
memory than a buffer. A `.nii.gz` cannot be seeked: one pass is all it offers.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.places import Place, on_disk
from scuba_ray.datasets.store_file import StoreError, StoreFile
from scuba_ray.errors import DataError

MEMORY = 64 << 20
"""Bytes of the buffer that volumes are streamed through, unless the caller says otherwise."""
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_MGH_TYPES, _MGH_DATA = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2"}, 284
"""MGH's type codes, and the byte at which its data begins."""
_NIFTI_2 = 540
"""Bytes of its header, which is how it begins."""
_FOOTER = 1 << 20
"""Bytes that may follow an MGH's data: scan parameters and what programs did."""
SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")


@dataclass(frozen=True)
class Volumes:
    """A file's header: `count` volumes of `shape` (X, Y, Z), stored values times `slope` plus `inter`."""

    path: Place
    shape: tuple[int, ...]
    count: int
    dtype: np.dtype[Any]
    slope: float
    inter: float
    offset: int
    affine: npt.NDArray[np.float64]
    """(4, 4): voxel indices, from 0, to millimetres; of a series of surface values (MGH) none, the identity."""

    def pick(self, voxel_V: npt.NDArray[np.int64], memory: int = MEMORY) -> npt.NDArray[np.float32]:
        """Stored values of some voxels in every volume, (count, V) float32, in one pass; the header's scale is not applied.

        Peak memory is the result and `memory` bytes (one volume at least).

        Parameters
        ----------
        voxel_V : array of int64
            Flat indices into a volume of `shape`, last axis fastest (`np.ravel_multi_index`).
        memory : int
            Bytes of the buffer.

        Raises
        ------
        DataError
            If the file ends early or is damaged.
        OSError
            If the disk or network fails.
        """
        # files store the first axis fastest
        place_V = np.ravel_multi_index(np.unravel_index(voxel_V, self.shape), self.shape, order="F")
        voxels = int(np.prod(self.shape))
        size = voxels * self.dtype.itemsize
        rows = min(max(memory // size, 1), self.count)
        buffer = bytearray(rows * size)
        picked_TV = np.empty((self.count, len(voxel_V)), np.float32)
        done = 0
        try:
            with _opened(self.path) as file:
                file.seek(self.offset)
                while done < self.count:
                    wanted = min(rows, self.count - done) * size
                    got = _fill(file, memoryview(buffer)[:wanted])
                    whole = got // size
                    block = np.frombuffer(buffer, self.dtype, count=whole * voxels)
                    picked_TV[done : done + whole] = block.reshape(whole, voxels).take(place_V, axis=1)
                    done += whole
                    if got < wanted:
                        raise EOFError("the file ends early")
                while isinstance(file, gzip.GzipFile) and file.readinto(buffer):
                    pass  # at the end of a .gz its checksum is compared
        except _DAMAGED as error:
            raise DataError(
                f"{self.path} is truncated or damaged: {done} of its {self.count} volumes could be read ({error}); "
                "compare its size with the original's and copy it again"
            ) from error
        except StoreError:
            raise
        except OSError as error:  # the disk's or network's, which does not say what was read
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error
        return picked_TV

    def check_whole(self) -> None:
        """Hold the file's size against its header, at the cost of four bytes read, and only where they differ read all of it.

        Raises
        ------
        DataError
            If the file is truncated or damaged.
        """
        volume = int(np.prod(self.shape)) * self.dtype.itemsize
        promised, there = self.offset + self.count * volume, self.path.stat().st_size
        if self.path.suffix not in {".gz", ".mgz"}:
            if there < promised:
                raise DataError(
                    f"{self.path} is truncated or damaged: {max(there - self.offset, 0) // volume} of its {self.count} volumes "
                    f"are there ({there:,} bytes of {promised:,}); compare its size with the original's and copy it again"
                )
            return
        with self.path.open("rb") as file:
            file.seek(-4, io.SEEK_END)  # a .gz ends with the size of what is in it, modulo 2**32 (of its last part, if several)
            size = int.from_bytes(file.read(4), "little")
        footer = _FOOTER if self.path.suffix == ".mgz" else 0
        if not 0 <= (size - promised) % 2**32 <= footer:
            self.pick(np.empty(0, np.int64))


@contextmanager
def _opened(path: Place) -> Iterator[gzip.GzipFile | io.BufferedReader | StoreFile]:
    """What is in a file, unpacked; from a store it is streamed, no copy is made."""
    with path.open("rb") as file:
        if path.suffix not in {".gz", ".mgz"}:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def _fill(file: gzip.GzipFile | io.BufferedReader | StoreFile, view: memoryview) -> int:
    """Fill `view` as far as the file goes; the number of bytes."""
    filled = 0
    while filled < len(view) and (read := file.readinto(view[filled:])):
        filled += read
    return filled


def open_volumes(path: Place) -> Volumes:
    """Read the header of a NIfTI or MGH file.

    Raises
    ------
    DataError
        If the file is missing, or no readable NIfTI or MGH.
    """
    if path.suffix in {".mgh", ".mgz"}:
        return _open_mgh(path)
    header = _nifti_header(path)
    shape = header.get_data_shape()
    slope, inter = header.get_slope_inter()
    return Volumes(
        path,
        (*shape, 1, 1, 1)[:3],
        int(np.prod(shape[3:], dtype=np.int64)),
        header.get_data_dtype(),
        1.0 if slope is None else float(slope),
        0.0 if inter is None else float(inter),
        int(header.get_data_offset()),
        np.asarray(header.get_best_affine(), np.float64),
    )


def _nifti_header(path: Place) -> Any:
    """The header of a NIfTI file, version 1 or 2; of a file on a store no more than its beginning is read."""
    import nibabel  # a third of a second, and most commands read no volume
    from nibabel.spatialimages import HeaderDataError

    try:
        with _opened(_there(path)) as file:
            kind = nibabel.Nifti2Header if _second(file.read(4)) else nibabel.Nifti1Header
            file.seek(0)
            return kind.from_fileobj(file)
    except StoreError:
        raise
    except (HeaderDataError, *_DAMAGED, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable NIfTI or MGH file: {error}") from error


def _second(first: bytes) -> bool:
    """Whether the first bytes, the header's size in either byte order, are those of NIfTI-2."""
    return {int.from_bytes(first, "little"), int.from_bytes(first, "big")} & {_NIFTI_2} != set()


def _open_mgh(path: Place) -> Volumes:
    """The header by itself: nibabel reads what follows the data too, for which a packed file has to be unpacked."""
    try:
        with _opened(_there(path)) as file:
            version, *sizes, kind, _ = np.frombuffer(file.read(28), ">i4").tolist()
    except StoreError:
        raise
    except (*_DAMAGED, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable MGH file: {error}") from error
    if version != 1 or kind not in _MGH_TYPES or min(sizes) < 1:
        raise DataError(f"{path} is no MGH file: version {version}, sizes {sizes}, type {kind}")
    return Volumes(path, tuple(sizes[:3]), sizes[3], np.dtype(_MGH_TYPES[kind]), 1.0, 0.0, _MGH_DATA, np.eye(4))


def read_volume(path: Place) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """A small file whole, scaled as its header says, and its affine (4, 4). The array has three axes, or four if several volumes.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    with on_disk(_there(path)) as copy:
        image = _load(copy, path)
        try:
            values = np.asanyarray(image.dataobj)
        except (*_DAMAGED, OSError, ValueError) as error:
            raise DataError(f"{path} is truncated or damaged: {error}") from error
    volumes = int(np.prod(image.shape[3:], dtype=np.int64))
    shape = (*(*image.shape, 1, 1)[:3], *([volumes] if volumes > 1 else []))
    return values.reshape(shape, order="F"), np.asarray(image.affine, np.float64)


def _there(path: Place) -> Place:
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    return path


def _load(copy: Path, path: Place) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        return nibabel.load(copy)
    except (ImageFileError, HeaderDataError, *_DAMAGED, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable NIfTI or MGH file: {error}") from error
