"""What a voxel is, in a volume or on fsaverage: what both kinds of space answer. Maps are flat arrays over all voxels (N).

Volumes are flattened with the last axis fastest, surfaces left hemisphere first. Label files hold 0 where no label is and, in
NSD's volumes, -1 outside of the cortex.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.places import Place, readable
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import DataError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Labels:
    """A collection of regions: the label of each voxel, and its hemisphere (index into `HEMISPHERES`, -1 not known)."""

    label_N: npt.NDArray[np.int32]
    hemi_N: npt.NDArray[np.int8]


class Space(Protocol):
    """Maps of one subject, each of one value per voxel or vertex; DataError where a file does not fit the betas."""

    files: dict[str, Place]
    """What was read so far, by its path below NSD's root."""
    notes: list[str]
    """What a reader should know."""

    def collections(self) -> list[str]:
        """Collections of regions that are there, by name."""
        ...

    def labels(self, collection: str) -> Labels:
        """Labels of a collection; DataError if it is not there."""
        ...

    def t_map(self, name: str) -> Floats | None:
        """The localiser's t values for `faces`, `word` and so on; None where the file is not there."""
        ...

    def ncsnr(self) -> Floats | None:
        """Signal over noise deviation of a single trial; None where the file is not there."""
        ...

    def mask(self, path: Place) -> npt.NDArray[np.bool_]:
        """A mask file: larger than 0 is inside."""
        ...

    def places(self, index_V: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        """Columns hemi, vertex, i, j, k, xyz of some voxels; null where unknown."""
        ...


def surface_columns(
    hemi_V: npt.NDArray[np.int8], vertex_V: npt.NDArray[np.int32], xyz_V3: npt.NDArray[np.floating] | None
) -> dict[str, pa.Array]:
    """Columns hemi, vertex and xyz; -1 becomes null."""
    xyz = pa.nulls(len(hemi_V), pa.list_(pa.float32(), 3))
    if xyz_V3 is not None:
        xyz = pa.FixedSizeListArray.from_arrays(pa.array(xyz_V3.astype(np.float32).ravel()), 3)
    hemi = pa.array([None if number < 0 else HEMISPHERES[number] for number in hemi_V], pa.string())
    return {"hemi": hemi, "vertex": pa.array(vertex_V, pa.int32(), mask=vertex_V < 0), "xyz": xyz}


def whole_labels(name: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Labels as whole numbers. Raises DataError if they are none: a map of probabilities or t values holds no labels."""
    label_N = np.nan_to_num(values.astype(np.float64))
    rounded_N = np.round(label_N)
    if (label_N != rounded_N).any():
        raise DataError(f"{name} holds {label_N[label_N != rounded_N][0]:g}, wanted whole numbers: labels, 0 where there is none")
    return rounded_N.astype(np.int32)


def load_npy(path: Place) -> npt.NDArray[np.generic]:
    """A mask in an .npy file. Raises DataError if it is unreadable."""
    try:
        array: npt.NDArray[np.generic] = np.load(readable(path), allow_pickle=False)
    except StoreError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a readable .npy array: {error}") from error
    return array
