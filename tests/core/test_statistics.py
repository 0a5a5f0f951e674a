"""Scores against scikit-learn, scipy and simulation; ceilings against simulated repeats; p against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, pearsonr
from sklearn.metrics import r2_score

from scuba_ray.core.statistics import (
    _orders,
    benjamini_hochberg,
    noise_ceiling_from_ncsnr,
    noise_ceiling_from_repeats,
    normalised_r2,
    pearson,
    permutation_p,
    r2,
    split_half_cosine,
)


def pair(images=120, voxels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    Y_SV = torch.randn(images, voxels, generator=generator) * torch.logspace(-2, 3, voxels) + torch.linspace(-9, 90, voxels)
    return Y_SV, Y_SV + torch.linspace(0.1, 5, voxels) * Y_SV.std(0) * torch.randn(images, voxels, generator=generator)


def test_r2_and_pearson_equal_the_references():
    Y_SV, P_SV = pair()
    np.testing.assert_allclose(r2(Y_SV, P_SV), r2_score(Y_SV, P_SV, multioutput="raw_values"), rtol=1e-5)
    expected = [pearsonr(Y_SV[:, v].double(), P_SV[:, v].double()).statistic for v in range(6)]
    np.testing.assert_allclose(pearson(Y_SV, P_SV), expected, rtol=1e-5)


def test_a_constant_voxel_has_no_score():
    Y_SV, P_SV = pair()
    Y_SV[:, 0] = 0.1
    P_SV[:, 1] = -3.3
    assert r2(Y_SV, P_SV).isnan().tolist() == [True] + [False] * 5
    assert pearson(Y_SV, P_SV).isnan().tolist() == [True, True] + [False] * 4
    p_V = permutation_p(Y_SV, P_SV, permutations=10, seed=0)
    assert p_V.isnan().tolist() == [True, True] + [False] * 4


def test_ceiling_from_ncsnr_is_the_published_formula():
    ncsnr_V = torch.tensor([0.0, 0.3, 1.0, 3.0, torch.nan])
    a, b, c = 7, 5, 3
    repeats_S = torch.tensor([3] * a + [2] * b + [1] * c)
    squared = ncsnr_V[:4] ** 2
    expected = squared / (squared + (a / 3 + b / 2 + c) / (a + b + c))
    got = noise_ceiling_from_ncsnr(ncsnr_V, repeats_S)
    torch.testing.assert_close(got[:4], expected)
    assert got[4].isnan()
    with pytest.raises(ValueError, match="at least one repeat"):
        noise_ceiling_from_ncsnr(ncsnr_V, torch.tensor([3, 0]))


@pytest.mark.parametrize("counts", [[3], [2, 3], [1, 2, 3, 8]])
def test_ceiling_from_repeats_recovers_the_simulated_one(counts):
    """4,000 voxels of 200 images: the estimates of both variances must be unbiased, whatever the numbers of repeats."""
    generator = torch.Generator().manual_seed(0)
    repeats_I = torch.tensor(counts).repeat(200 // len(counts))
    image_T = torch.arange(len(repeats_I)).repeat_interleave(repeats_I)
    signal_IV = 0.8 * torch.randn(len(repeats_I), 4000, generator=generator)
    Y_TV = 5 + signal_IV[image_T] + 1.3 * torch.randn(len(image_T), 4000, generator=generator)
    order_T = torch.randperm(len(image_T), generator=generator)
    ceiling_V = noise_ceiling_from_repeats(Y_TV[order_T], 1000 - image_T[order_T])
    expected = noise_ceiling_from_ncsnr(torch.tensor([0.8 / 1.3]), repeats_I).item()
    assert abs(ceiling_V.median().item() - expected) < 0.01
    scored = torch.tensor([2, 2, 5])
    expected = noise_ceiling_from_ncsnr(torch.tensor([0.8 / 1.3]), scored).item()
    assert abs(noise_ceiling_from_repeats(Y_TV, image_T, scored).median().item() - expected) < 0.01


def test_ceiling_of_equal_repeats_is_the_estimator_of_nsd():
    """NSD: noise variance = mean over images of the variance over repeats (n - 1), signal = total - noise, rectified."""
    Y_IRV = torch.randn(50, 3, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    Y_IRV += torch.linspace(0, 2, 20) * torch.randn(50, 1, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    noise_V = Y_IRV.var(dim=1).mean(0)
    signal_V = (Y_IRV.mean(1).var(dim=0) - noise_V / 3).clamp(min=0)
    got = noise_ceiling_from_repeats(Y_IRV.flatten(0, 1), torch.arange(50).repeat_interleave(3))
    torch.testing.assert_close(got.double(), signal_V / (signal_V + noise_V / 3), rtol=1e-5, atol=1e-7)
    assert (got == 0).any()


def test_ceilings_that_cannot_be_known_are_null():
    Y_TV = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    assert noise_ceiling_from_repeats(Y_TV, torch.arange(6)).isnan().all()
    assert noise_ceiling_from_repeats(torch.full((6, 2), 0.1), torch.arange(6) // 2).isnan().all()
    assert noise_ceiling_from_repeats(Y_TV, torch.zeros(6, dtype=torch.long)).tolist() == [0.0, 0.0]
    noiseless = noise_ceiling_from_repeats(Y_TV[:3].repeat(2, 1), torch.arange(3).repeat(2))
    torch.testing.assert_close(noiseless, torch.ones(2))


def test_normalised_r2_is_null_below_the_floor_and_never_infinite():
    ceiling_V = torch.tensor([0.0, 0.05, 0.1, 0.5, torch.nan, 0.5])
    got = normalised_r2(torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, torch.nan]), ceiling_V, 0.1)
    torch.testing.assert_close(got, torch.tensor([torch.nan, torch.nan, 1.0, 0.2, torch.nan, torch.nan]), equal_nan=True)
    assert normalised_r2(torch.tensor([0.1, 0.1]), torch.tensor([0.0, 1.0]), 0.0).isnan().tolist() == [True, False]


@pytest.mark.parametrize(("permutations", "block", "images"), [(999, 1, 40), (100, 1, 41), (350, 7, 60), (1, 1, 2)])
def test_p_equals_a_loop_over_the_same_permutations(permutations, block, images):
    Y_SV, P_SV = pair(images=images, voxels=5)
    rows = max(n for n in range(1, 100) if (permutations + 1) % n == 0 and n * n <= permutations + 1)
    generator = torch.Generator().manual_seed(7)
    s = _orders(rows, images, block, generator)
    t = _orders((permutations + 1) // rows, images, block, generator)
    orders = [a[b.argsort()] for a in s for b in t]
    assert orders[0].tolist() == list(range(images))
    for order in orders:
        kept = images % block
        assert order[images - kept :].tolist() == list(range(images - kept, images))
        assert (order[: images - kept].view(-1, block).diff(dim=1) == 1).all()
    r_NV = torch.stack([pearson(Y_SV[order], P_SV) for order in orders])
    expected = (r_NV >= r_NV[0] - 1e-6).sum(0) / (permutations + 1)
    torch.testing.assert_close(permutation_p(Y_SV, P_SV, permutations=permutations, seed=7, block=block), expected.float())


def test_p_is_uniform_under_the_null_and_small_for_signal():
    generator = torch.Generator().manual_seed(0)
    Y_SV, P_SV = torch.randn(50, 4000, generator=generator), torch.randn(50, 4000, generator=generator)
    p_V = permutation_p(Y_SV, P_SV, permutations=999, seed=1)
    for level in (0.01, 0.05, 0.3, 0.8):
        assert abs((p_V <= level).float().mean().item() - level) < 4 * (level * (1 - level) / 4000) ** 0.5
    assert (permutation_p(Y_SV, Y_SV + P_SV, permutations=999, seed=1) == 0.001).float().mean() > 0.95
    assert (permutation_p(Y_SV, -Y_SV, permutations=999, seed=1) == 1).all()


def test_p_varies_with_the_seed_as_separate_permutations_would():
    """One voxel, 400 seeds: the spread of p is that of 999 independent draws."""
    Y_SV, P_SV = pair(images=60, voxels=1, seed=3)
    P_SV += 40 * Y_SV.std() * torch.randn(60, 1, generator=torch.Generator().manual_seed(9))
    p_N = torch.stack([permutation_p(Y_SV, P_SV, permutations=999, seed=seed)[0] for seed in range(400)])
    mean = p_N.mean().item()
    assert 0.05 < mean < 0.95
    assert p_N.std().item() == pytest.approx((mean * (1 - mean) / 999) ** 0.5, rel=0.15)


def test_p_does_not_depend_on_the_block_of_voxels_or_the_tile():
    Y_SV, P_SV = pair(voxels=11)
    whole = permutation_p(Y_SV, P_SV, permutations=99, seed=0)
    assert torch.equal(whole, permutation_p(Y_SV, P_SV, permutations=99, seed=0, tile_bytes=1))
    assert torch.equal(whole[4:6], permutation_p(Y_SV[:, 4:6], P_SV[:, 4:6], permutations=99, seed=0))


def test_p_of_too_few_images_is_null_and_arguments_are_checked():
    assert permutation_p(torch.ones(5, 2), torch.ones(5, 2), permutations=9, seed=0, block=3).isnan().all()
    assert permutation_p(torch.ones(5, 0), torch.ones(5, 0), permutations=9, seed=0).shape == (0,)
    with pytest.raises(ValueError, match="got 0 and 1"):
        permutation_p(torch.ones(5, 2), torch.ones(5, 2), permutations=0, seed=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1, width=32), st.just(float("nan"))), max_size=40))
def test_q_equals_scipy_and_skips_missing_p(p):
    p_V = torch.tensor(p, dtype=torch.float32)
    q_V = benjamini_hochberg(p_V)
    tested = ~p_V.isnan()
    assert torch.equal(q_V.isnan(), p_V.isnan())
    if tested.any():
        expected = false_discovery_control(p_V[tested].double().numpy())
        np.testing.assert_allclose(q_V[tested], expected, rtol=1e-6, atol=1e-38)  # below that float32 has few digits left


def test_split_half_cosine():
    first = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    second = torch.tensor([[1.0, 1.0, -1.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(split_half_cosine(first, second), torch.tensor([0.5**0.5, torch.nan, -1.0]), equal_nan=True)
