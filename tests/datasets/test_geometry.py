from __future__ import annotations

import socket

import numpy as np
import pytest

from scuba_ray.datasets.geometry import FSAVERAGE5_VERTICES, HEMISPHERES, fsaverage5, surface


def test_fsaverage5_comes_from_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    fsaverage5.cache_clear()
    geometry = fsaverage5()
    assert set(geometry.views) == {"inflated", "pial", "flat"}
    for view in geometry.views.values():
        for hemi in HEMISPHERES:
            coordinates, faces = view[hemi]
            assert coordinates.shape == (FSAVERAGE5_VERTICES, 3) and np.isfinite(coordinates).all()
            assert faces.min() >= 0 and faces.max() < FSAVERAGE5_VERTICES
    for hemi in HEMISPHERES:
        assert geometry.background[hemi].shape == (FSAVERAGE5_VERTICES,)


def test_hemispheres_lie_on_their_sides() -> None:
    assert surface("pial", "lh")[0][:, 0].mean() < -20
    assert surface("pial", "rh")[0][:, 0].mean() > 20
