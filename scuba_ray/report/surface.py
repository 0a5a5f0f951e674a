"""A surface as JSON for the page: coordinates as 16-bit integers, faces once, and which of them each view draws.

The views of a hemisphere share vertices, so a vertex keeps its number from view to view and the page can turn one view into
another. Flat views lack the medial wall and the cuts: their faces are a part of the first view's, kept as one byte per face.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.errors import DataError
from scuba_ray.protocols import Geometry
from scuba_ray.report.packed import base64_of

_STEPS = 32767


def pack(geometry: Geometry) -> dict[str, Any]:
    """Return a geometry as a JSON-able mapping; positions are exact to 1/65534 of a view's extent (about 5 µm for fsaverage).

    Arrays are base64 of little-endian numbers: `coords` int16 (N, 3) to be multiplied by `step` (mm), centred on the middle of
    the drawn part; `faces` uint32 (F, 3); `shown` uint8 (F), absent where a view draws all faces; `shade` uint8 (N), 0 the
    top of a gyrus, 255 the depth of a sulcus.

    Raises
    ------
    DataError
        If a view has another number of vertices than the first, or faces that the first one lacks.
    """
    first = next(iter(geometry.views))
    hemispheres = list(geometry.views[first])
    return {
        "space": geometry.space,
        "hemispheres": hemispheres,
        "vertices": [len(geometry.views[first][hemi][0]) for hemi in hemispheres],
        "faces": [base64_of(geometry.views[first][hemi][1], "<u4") for hemi in hemispheres],
        "views": {view: [_view(geometry, first, view, hemi) for hemi in hemispheres] for view in geometry.views},
        "shade": [_shade(geometry.background[hemi]) if hemi in geometry.background else None for hemi in hemispheres],
    }


def _view(geometry: Geometry, first: str, view: str, hemi: str) -> dict[str, Any]:
    coords_N3, faces_F3 = geometry.views[view][hemi]
    all_coords_N3, all_faces_F3 = geometry.views[first][hemi]
    if len(coords_N3) != len(all_coords_N3):
        raise DataError(
            f"{geometry.space}, {hemi}: the {view} view has {len(coords_N3)} vertices, the {first} view {len(all_coords_N3)}"
        )
    used = np.unique(faces_F3)
    low, high = coords_N3[used].min(axis=0), coords_N3[used].max(axis=0)
    step = float((high - low).max()) / 2 / _STEPS
    centred = np.clip(np.round((coords_N3 - (low + high) / 2) / step), -_STEPS, _STEPS)
    packed: dict[str, Any] = {"coords": base64_of(centred, "<i2"), "step": step}
    if not np.array_equal(faces_F3, all_faces_F3):
        shown = np.isin(_names(all_faces_F3, len(coords_N3)), _names(faces_F3, len(coords_N3)))
        if shown.sum() != len(faces_F3):
            raise DataError(f"{geometry.space}, {hemi}: the {view} view has faces that the {first} view lacks")
        packed["shown"] = base64_of(shown, "u1")
    return packed


def _names(faces_F3: npt.NDArray[Any], vertices: int) -> npt.NDArray[np.int64]:
    """A number per face that does not depend on the order of its corners."""
    corners = np.sort(faces_F3.astype(np.int64), axis=1)
    names: npt.NDArray[np.int64] = (corners[:, 0] * vertices + corners[:, 1]) * vertices + corners[:, 2]
    return names


def _shade(depth_N: npt.NDArray[Any]) -> str:
    low, high = np.percentile(depth_N, [2, 98])
    scaled = np.clip((depth_N - low) / max(float(high - low), 1e-9), 0, 1)
    return base64_of(np.round(scaled * 255), "u1")
