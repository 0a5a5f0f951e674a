"""Low-level features against pictures whose size, luminance, contrast and frequencies are known."""

from __future__ import annotations

import math

import pytest
import torch

from scuba_ray.core.low_level import BANDS, NAMES, ORIENTATIONS, SIDE, low_level_features


def grey(value_HW: torch.Tensor) -> torch.Tensor:
    return value_HW.expand(3, SIDE, SIDE)


def grating(cycles: float, degrees: float) -> torch.Tensor:
    y_HW, x_HW = torch.meshgrid(torch.arange(SIDE) / SIDE, torch.arange(SIDE) / SIDE, indexing="ij")
    angle = math.radians(degrees)
    wave = torch.sin(2 * math.pi * cycles * (math.cos(angle) * x_HW + math.sin(angle) * y_HW))
    return grey(0.5 + 0.3 * wave)


def features(*pictures_3HW: torch.Tensor) -> torch.Tensor:
    return low_level_features(torch.stack(pictures_3HW))


def test_luminance_and_contrast_are_mean_and_deviation_of_luma() -> None:
    picture = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    luma = 0.2126 * picture[0] + 0.7152 * picture[1] + 0.0722 * picture[2]
    row = dict(zip(NAMES, features(picture)[0].tolist(), strict=True))
    assert row["luminance"] == pytest.approx(float(luma.mean()), rel=1e-5)
    assert row["contrast"] == pytest.approx(float(luma.std(correction=0)), rel=1e-5)


@pytest.mark.parametrize("side", [16, 24, 32])
def test_size_is_the_share_that_differs_from_a_shaded_background(side: int) -> None:
    ramp = torch.linspace(0.2, 0.6, SIDE)
    shaded = torch.stack([ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE), torch.full((SIDE, SIDE), 0.4)])
    with_thing = shaded.clone()
    with_thing[:, 20 : 20 + side, 18 : 18 + side] = torch.tensor([0.9, 0.1, 0.9])[:, None, None]
    plain, thing = features(shaded, with_thing)[:, 0].tolist()
    assert plain == 0
    assert thing == pytest.approx(side**2 / SIDE**2, abs=0.02)


@pytest.mark.parametrize("band", range(len(BANDS)))
@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_a_grating_has_its_energy_in_its_own_band_and_orientation(band: int, orientation: int) -> None:
    low, high = BANDS[band]
    row = features(grating((low + high) / 2, 180 * orientation / ORIENTATIONS))[0, 3:]
    assert int(row.argmax()) == band * ORIENTATIONS + orientation
    assert 10 ** float(row.max()) == pytest.approx(0.3**2 / 2, rel=0.25), "the variance of a sine of amplitude .3"


def test_plain_pictures_have_finite_features_and_no_size() -> None:
    row = features(grey(torch.zeros(SIDE, SIDE)), grey(torch.ones(SIDE, SIDE)))
    assert bool(row.isfinite().all()) and row[:, 0].tolist() == [0, 0] and row[:, 1].tolist() == [0, pytest.approx(1)]


def test_a_picture_does_not_depend_on_the_pictures_beside_it() -> None:
    pictures = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([low_level_features(one[None]) for one in pictures])
    torch.testing.assert_close(low_level_features(pictures), alone, rtol=1e-5, atol=1e-6)
