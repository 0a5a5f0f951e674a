"""The bound on what is left out against the exact float64 formula, and the projection on candidates against the streaming one."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scuba_ray.core.projection import empty_state, finish, update
from scuba_ray.core.truncated import Candidates, Truncated, truncate
from scuba_ray.core.vectors import cosine, unit_and_norm
from tests.core.test_projection import bank, directions

P = 5


def chosen(index_Vk, floor_V, unit_KD, norm_K, partition_K) -> Candidates:
    there = index_Vk.clamp(min=0)
    return Candidates(unit_KD[there], norm_K[there], partition_K[there], index_Vk, floor_V)


def nearest(k, directions_VD, data, *, beta, keep=8) -> tuple[Truncated, torch.Tensor]:
    """Truncated to the exact k nearest, as a flat index finds them; and their indices."""
    cos_Vk, index_Vk = torch.topk(directions_VD @ data[0].T, min(k, len(data[0])), dim=1)
    count_P = torch.bincount(data[2], minlength=P)
    return truncate(chosen(index_Vk, cos_Vk[:, -1], *data), directions_VD, count_P, beta=beta, nearest=keep), index_Vk


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 300),
    k=st.integers(1, 120),
    beta=st.sampled_from([1e-3, 1.0, 25.0, 150.0, 2000.0]),
    seed=st.integers(0, 10**6),
)
def test_the_bound_bounds_what_the_exact_formula_says_is_missing(*, images, k, beta, seed):
    data, directions_VD = bank(images, 16, seed), directions(6, 16, seed + 1)
    truncated, index_Vk = nearest(k, directions_VD, data, beta=beta)
    taken_VK = torch.zeros(6, images, dtype=torch.bool).scatter(1, index_Vk, True)
    logit_VK = beta * directions_VD.double() @ data[0].double().T
    for row in range(P + 1):
        mine_K = data[2] == row if row < P else torch.ones(images, dtype=torch.bool)
        if not mine_K.any():
            continue
        p_VK = torch.softmax(logit_VK.masked_fill(~mine_K, -torch.inf), dim=1)
        missing_V = (p_VK * ~taken_VK).sum(1)
        bound_V = truncated.missing_mass_PV[row]
        assert (bound_V >= missing_V - 1e-12).all()
        assert (bound_V <= 1).all()
        assert (bound_V[(taken_VK | ~mine_K).all(1)] == 0).all(), "nothing is left out"


def test_all_images_as_candidates_are_the_exact_projection():
    data, directions_VD = bank(200, 16), directions(7, 16)
    truncated, _ = nearest(200, directions_VD, data, beta=150.0)
    state = empty_state(7, 16, nearest=8)
    update(state, directions_VD, *data, offset=0, beta=150.0)
    exact = finish(state, directions_VD)
    assert (truncated.missing_mass_PV == 0).all()
    for name in ("embedding_PVD", "n_eff_PV", "cos_before_after_PV", "bank_agreement_PV", "half_agreement_V", "count_P"):
        torch.testing.assert_close(getattr(truncated.projection, name), getattr(exact, name), rtol=1e-4, atol=1e-5)
    assert torch.equal(truncated.projection.nearest_index_PVk, exact.nearest_index_PVk)
    torch.testing.assert_close(truncated.projection.nearest_cos_PVk, exact.nearest_cos_PVk, equal_nan=True)


def test_a_small_missing_mass_is_a_close_projection():
    data, directions_VD = bank(2000, 64), directions(20, 64)
    state = empty_state(20, 64)
    update(state, directions_VD, *data, offset=0, beta=150.0)
    exact = finish(state, directions_VD)
    truncated, _ = nearest(500, directions_VD, data, beta=150.0)
    small_PV = truncated.missing_mass_PV < 1e-3
    assert small_PV.float().mean() > 0.5
    assert cosine(exact.embedding_PVD, truncated.projection.embedding_PVD)[small_PV].min() > 1 - 1e-5


def test_a_partition_without_candidates_is_missing_whole_and_one_without_images_is_not():
    unit_KD, norm_K, _ = bank(60, 16)
    partition_K = torch.tensor([0] * 30 + [3] * 30)
    directions_VD = directions(4, 16)
    index_Vk = torch.arange(10).expand(4, -1)
    candidates = chosen(index_Vk, torch.full((4,), 0.1), unit_KD, norm_K, partition_K)
    truncated = truncate(candidates, directions_VD, torch.bincount(partition_K, minlength=P), beta=150.0, nearest=12)
    assert (truncated.missing_mass_PV[3] == 1).all()
    assert (truncated.missing_mass_PV[[1, 2, 4]] == 0).all()
    assert truncated.projection.count_P.tolist() == [30, 0, 0, 30, 0, 60]
    assert truncated.projection.embedding_PVD[5].isfinite().all(), "the whole bank is projected on partition 0 alone"
    assert (truncated.projection.nearest_index_PVk[0] >= 0).sum(1).tolist() == [10] * 4


def test_candidates_that_are_not_there_count_for_nothing():
    data, directions_VD = bank(50, 16), directions(3, 16)
    index_Vk = torch.topk(directions_VD @ data[0].T, 20, dim=1).indices
    padded = torch.nn.functional.pad(index_Vk, (0, 15), value=-1)
    count_P, floor_V = torch.bincount(data[2], minlength=P), torch.zeros(3)
    one, two = (truncate(chosen(i, floor_V, *data), directions_VD, count_P, beta=25.0, nearest=30) for i in (index_Vk, padded))
    torch.testing.assert_close(one.missing_mass_PV, two.missing_mass_PV)
    torch.testing.assert_close(one.projection.embedding_PVD, two.projection.embedding_PVD)
    assert torch.equal(one.projection.nearest_index_PVk, two.projection.nearest_index_PVk)


def test_extreme_betas_and_floors_neither_overflow_nor_vanish():
    unit_KD = unit_and_norm(torch.eye(8))[0]
    data = (unit_KD, torch.ones(8), torch.arange(8) % P)
    for beta in (1e-6, 1e6):
        truncated, _ = nearest(3, unit_KD[:2].clone(), data, beta=beta)
        assert truncated.missing_mass_PV.isfinite().all()
    assert truncated.missing_mass_PV[0, 0] < 1e-12, "its own image has all of the mass of its partition"
