"""The fsaverage5 surface, from the files inside nilearn's wheel: nothing is downloaded.

Hemispheres are called `lh` and `rh` everywhere, as FreeSurfer, NSD and Algonauts do. The flat view has faces of its own: the
medial wall and the cuts are missing there (9,465 and 9,537 of the 10,242 vertices of a hemisphere belong to it).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from scuba_ray.protocols import Geometry

HEMISPHERES = ("lh", "rh")
FSAVERAGE5_VERTICES = 10242
"""Vertices per hemisphere."""

_PARTS = {"lh": "left", "rh": "right"}
_VIEWS = ("inflated", "pial", "flat")


@cache
def fsaverage5() -> Geometry:
    """Inflated, pial and flat views of fsaverage5 with sulcal depth as background. Coordinates in millimetres."""
    return Geometry(
        space="fsaverage5",
        views={view: {hemi: surface(view, hemi) for hemi in HEMISPHERES} for view in _VIEWS},
        background=_sulcal_depth(),
    )


def surface(name: str, hemi: str) -> tuple[np.ndarray, np.ndarray]:
    """One mesh of fsaverage5: coordinates (N, 3) float32 in millimetres and faces (F, 3) int32.

    `name` is `inflated`, `pial`, `flat`, `sphere` or `white_matter`.
    """
    part = _meshes()[name].parts[_PARTS[hemi]]
    return part.coordinates.astype(np.float32), part.faces.astype(np.int32)


@cache
def _meshes() -> Any:
    from nilearn.datasets import load_fsaverage  # two seconds of imports, and few commands draw or make a surface

    return load_fsaverage("fsaverage5")


def _sulcal_depth() -> dict[str, np.ndarray]:
    from nilearn.datasets import load_fsaverage_data

    parts = load_fsaverage_data(mesh="fsaverage5", data_type="sulcal").data.parts
    return {hemi: parts[part].astype(np.float32) for hemi, part in _PARTS.items()}
