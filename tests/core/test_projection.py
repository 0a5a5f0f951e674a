"""The streaming projection against the one-shot formula in float64, for any tiling, order and merge."""

import pickle
from dataclasses import fields
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from scuba_ray.core.projection import Images, Projection, SoftmaxState, attend, empty_state, finish, merge, update
from scuba_ray.core.tree import Forest
from scuba_ray.core.vectors import cosine, unit_and_norm

BETA = 150.0


def bank(images: int, dim: int, seed: int = 0, partitions: int = 5):
    """Sorted partitions, norms around the 10 of raw CLIP embeddings, and some exact duplicates."""
    generator = torch.Generator().manual_seed(seed)
    raw_KD = torch.randn(images, dim, generator=generator) * (1 + 0.2 * torch.rand(images, 1, generator=generator))
    raw_KD[images // 2 :: 7] = raw_KD[images // 2 - 1].clone()
    partition_K = torch.randint(partitions, (images,), generator=generator).sort().values
    return (*unit_and_norm(raw_KD), partition_K)


def directions(voxels: int, dim: int, seed: int = 1):
    return unit_and_norm(torch.randn(voxels, dim, generator=torch.Generator().manual_seed(seed)))[0]


def project(directions_VD, unit_KD, norm_K, partition_K, *, beta=BETA, tile=8192, cuts=(), k=8, order=None) -> Projection:
    """As a cluster would: a state per shard, merged pairwise in `order`."""
    edges = [0, *sorted(cuts), len(unit_KD)]
    states = []
    for start, stop in pairwise(edges):
        state = empty_state(*directions_VD.shape, partitions=5, nearest=k)
        rows = slice(start, stop)
        update(state, directions_VD, unit_KD[rows], norm_K[rows], partition_K[rows], offset=start, beta=beta, tile=tile)
        states.append(state)
    states = [states[i] for i in (order or range(len(states)))]
    while len(states) > 1:
        states = [merge(states[i], states[i + 1]) if i + 1 < len(states) else states[i] for i in range(0, len(states), 2)]
    return finish(states[0], directions_VD)


def one_shot(directions_VD, unit_KD, norm_K, beta=BETA):
    """The paper's formula on everything at once, in float64: embedding and effective number of images."""
    unit_KD, norm_K = unit_KD.double(), norm_K.double()
    p_VK = torch.softmax(beta * directions_VD.double() @ unit_KD.T, dim=1)
    return normalize(p_VK @ unit_KD, dim=1) * (p_VK @ norm_K)[:, None], 1 / (p_VK**2).sum(1)


def assert_equals_one_shot(projection: Projection, directions_VD, unit_KD, norm_K, partition_K, *, beta=BETA):
    for row in range(6):
        rows = partition_K == row if row < 5 else torch.ones_like(partition_K, dtype=torch.bool)
        if not rows.any():
            assert projection.embedding_PVD[row].isnan().all()
            continue
        expected_VD, n_eff_V = one_shot(directions_VD, unit_KD[rows], norm_K[rows], beta)
        got_VD = projection.embedding_PVD[row].double()
        assert cosine(got_VD, expected_VD).min() >= 1 - 1e-6
        torch.testing.assert_close(got_VD.norm(dim=1), expected_VD.norm(dim=1), rtol=1e-5, atol=0)
        torch.testing.assert_close(projection.n_eff_PV[row].double(), n_eff_V, rtol=1e-4, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 400),
    voxels=st.integers(1, 9),
    tile=st.integers(1, 500),
    cuts=st.sets(st.integers(0, 400), max_size=8),
    beta=st.sampled_from([1e-3, 1.0, 25.0, 150.0, 2000.0]),
    seed=st.integers(0, 10**6),
)
def test_equals_the_one_shot_formula_for_any_tiling_and_merge_order(*, images, voxels, tile, cuts, beta, seed):
    data = bank(images, 16, seed)
    directions_VD = directions(voxels, 16, seed + 1)
    cuts = {min(cut, images) for cut in cuts}
    order = torch.randperm(len(cuts) + 1, generator=torch.Generator().manual_seed(seed)).tolist()
    projection = project(directions_VD, *data, beta=beta, tile=tile, cuts=cuts, order=order)
    assert_equals_one_shot(projection, directions_VD, *data, beta=beta)


@settings(max_examples=25, deadline=None)
@given(tile=st.integers(1, 700), cuts=st.sets(st.integers(1, 599), max_size=5), seed=st.integers(0, 10**6))
def test_nearest_images_do_not_depend_on_tiling_even_with_duplicates(tile, cuts, seed):
    data = bank(600, 32, seed)
    directions_VD = directions(5, 32, seed + 1)
    whole = project(directions_VD, *data, k=40)
    order = torch.randperm(len(cuts) + 1, generator=torch.Generator().manual_seed(seed)).tolist()
    tiled = project(directions_VD, *data, k=40, tile=tile, cuts=cuts, order=order)
    assert torch.equal(whole.nearest_index_PVk, tiled.nearest_index_PVk)
    assert torch.equal(whole.nearest_cos_PVk.nan_to_num(-2), tiled.nearest_cos_PVk.nan_to_num(-2))


def test_nearest_images_are_the_sorted_scores():
    unit_KD, norm_K, partition_K = bank(5000, 32)
    directions_VD = directions(7, 32)
    projection = project(directions_VD, unit_KD, norm_K, partition_K, k=64, tile=1024)
    scores_VK = directions_VD @ unit_KD.T
    for row in range(6):
        index_K = torch.arange(5000) if row == 5 else (partition_K == row).nonzero()[:, 0]
        expected_cos, position = scores_VK[:, index_K].sort(dim=1, descending=True, stable=True)
        assert torch.equal(projection.nearest_index_PVk[row], index_K[position[:, :64]])
        torch.testing.assert_close(projection.nearest_cos_PVk[row], expected_cos[:, :64], rtol=0, atol=1e-6)


def test_a_bank_of_identical_images_orders_them_by_index():
    unit_KD = unit_and_norm(torch.ones(300, 8))[0]
    partition_K = torch.zeros(300, dtype=torch.uint8)
    state = empty_state(3, 8, partitions=1, nearest=10)
    for start in (200, 0, 100):
        rows = slice(start, start + 100)
        args = (directions(3, 8), unit_KD[rows], torch.ones(100), partition_K[rows])
        update(state, *args, offset=start, beta=BETA, tile=33)
    projection = finish(state, directions(3, 8))
    assert projection.nearest_index_PVk.tolist() == [[list(range(10))] * 3] * 2
    torch.testing.assert_close(projection.n_eff_PV, torch.full((2, 3), 300.0))


def test_unsorted_partitions_give_the_same_as_sorted():
    unit_KD, norm_K, partition_K = bank(500, 16)
    shuffle = torch.randperm(500, generator=torch.Generator().manual_seed(3))
    directions_VD = directions(4, 16)
    mixed = project(directions_VD, unit_KD[shuffle], norm_K[shuffle], partition_K[shuffle])
    assert_equals_one_shot(mixed, directions_VD, unit_KD, norm_K, partition_K)
    cos_VK = directions_VD @ unit_KD[shuffle].T
    found = mixed.nearest_index_PVk[-1]
    torch.testing.assert_close(cos_VK.gather(1, found), mixed.nearest_cos_PVk[-1])


def test_empty_partitions_are_nan_and_counted():
    unit_KD, norm_K, _ = bank(50, 16)
    partition_K = torch.tensor([1] * 20 + [3] * 30)
    directions_VD = directions(4, 16)
    projection = project(directions_VD, unit_KD, norm_K, partition_K, k=25)
    assert projection.count_P.tolist() == [0, 20, 0, 30, 0, 50]
    for empty in (0, 2, 4):
        for name in ("embedding_PVD", "n_eff_PV", "cos_before_after_PV", "bank_agreement_PV", "nearest_cos_PVk"):
            assert getattr(projection, name)[empty].isnan().all()
        assert (projection.nearest_index_PVk[empty] == -1).all()
    assert projection.embedding_PVD[[1, 3, 5]].isfinite().all()
    assert (projection.nearest_index_PVk[1][:, 20:] == -1).all()
    assert projection.nearest_cos_PVk[1][:, 20:].isnan().all()
    expected = cosine(projection.embedding_PVD[1], projection.embedding_PVD[3])
    torch.testing.assert_close(projection.bank_agreement_PV[-1], expected)


def test_a_state_without_images_is_all_nan():
    projection = finish(empty_state(2, 4), directions(2, 4))
    assert projection.embedding_PVD.isnan().all()
    assert projection.bank_agreement_PV.isnan().all()
    assert projection.count_P.tolist() == [0] * 6


def test_agreement_and_cos_before_after():
    data = bank(400, 16)
    directions_VD = directions(6, 16)
    projection = project(directions_VD, *data)
    pairs = [cosine(projection.embedding_PVD[a], projection.embedding_PVD[b]) for a in range(5) for b in range(a)]
    torch.testing.assert_close(projection.bank_agreement_PV[-1], torch.stack(pairs).mean(0))
    torch.testing.assert_close(projection.bank_agreement_PV[2], cosine(projection.embedding_PVD[2], projection.embedding_PVD[5]))
    torch.testing.assert_close(projection.cos_before_after_PV[-1], cosine(directions_VD, projection.embedding_PVD[5]))


def test_a_voxel_without_weights_becomes_the_mean_image_with_no_cosine():
    unit_KD, norm_K, partition_K = bank(300, 16)
    projection = project(torch.zeros(1, 16), unit_KD, norm_K, partition_K)
    expected = normalize(unit_KD.mean(0), dim=0) * norm_K.mean()
    torch.testing.assert_close(projection.embedding_PVD[-1, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projection.n_eff_PV[-1, 0].item(), 300.0, rtol=1e-4, atol=0)
    assert projection.cos_before_after_PV.isnan().all()


def test_merge_with_an_empty_state_changes_nothing():
    unit_KD, norm_K, partition_K = bank(100, 16)
    directions_VD = directions(4, 16)
    state = empty_state(4, 16, nearest=8)
    update(state, directions_VD, unit_KD, norm_K, partition_K, offset=0, beta=BETA)
    for merged in (merge(state, empty_state(4, 16, nearest=8)), merge(empty_state(4, 16, nearest=8), state)):
        for name in SoftmaxState.__dataclass_fields__:
            torch.testing.assert_close(getattr(merged, name), getattr(state, name))


def test_a_tile_of_no_images_changes_nothing():
    directions_VD = directions(2, 4)
    state = empty_state(2, 4)
    none = torch.zeros(0)
    update(state, directions_VD, torch.zeros(0, 4), none, none.long(), offset=0, beta=BETA)
    assert state.count_P.sum() == 0


def test_shapes_and_partitions_are_checked():
    state = empty_state(2, 4)
    good = (directions(2, 4), torch.zeros(3, 4), torch.zeros(3), torch.zeros(3, dtype=torch.long))
    for position, bad, message in (
        (0, directions(3, 4), "directions must have shape"),
        (1, torch.zeros(3, 5), "image embeddings must have shape"),
        (2, torch.zeros(2), "as many norms"),
        (3, torch.full((3,), 5), r"\[0, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            update(state, *(bad if i == position else part for i, part in enumerate(good)), offset=0, beta=BETA)
    with pytest.raises(ValueError, match="states differ"):
        merge(state, empty_state(3, 4))


def stored(images: int, dim: int, seed: int = 0) -> tuple[Images, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Images as a bank keeps them, in float16, and what they are in float32."""
    unit_KD, norm_K, partition_K = bank(images, dim, seed)
    raw_KD = (unit_KD * norm_K[:, None]).half()
    return Images(raw_KD, norm_K, partition_K, torch.arange(images)), (unit_and_norm(raw_KD)[0], norm_K, partition_K)


def rows_of(images: Images, rows: torch.Tensor) -> Images:
    """Some images, sorted by partition, as a segment holds them."""
    rows = rows[images.partition_K[rows].argsort(stable=True)]
    return Images(**{field.name: getattr(images, field.name)[rows] for field in fields(Images)})


@pytest.mark.parametrize("shards", [1, 2, 5, 16])
def test_shards_in_any_order_of_arrival_are_the_one_shot_formula_and_equal_to_the_last_bit(shards: int):
    images, plain = stored(3000, 64)
    directions_VD = directions(33, 64)
    made = []
    for seed in range(3):
        forest = Forest(merge)
        for piece in torch.randperm(shards, generator=torch.Generator().manual_seed(seed)).tolist():
            state = empty_state(33, 64, nearest=8)
            rows = torch.arange(3000).tensor_split(shards)[piece]
            attend([state], [directions_VD], rows_of(images, rows), beta=BETA, tile=256)
            forest.add((0, piece), pickle.loads(pickle.dumps(state)))
        made.append(finish(forest.fold(), directions_VD))
    assert_equals_one_shot(made[0], directions_VD, *plain)
    for other in made[1:]:
        for field in fields(Projection):
            assert torch.equal(getattr(made[0], field.name), getattr(other, field.name)), field.name


def test_states_attended_together_are_those_attended_alone_to_the_last_bit():
    images, _ = stored(1000, 32)
    several = [directions(voxels, 32, seed=voxels) for voxels in (7, 0, 300)]
    together = [empty_state(len(one), 32, nearest=8) for one in several]
    attend(together, several, rows_of(images, torch.arange(1000)), beta=BETA, tile=200)
    for directions_VD, state in zip(several, together, strict=True):
        alone = empty_state(len(directions_VD), 32, nearest=8)
        attend([alone], [directions_VD], rows_of(images, torch.arange(1000)), beta=BETA, tile=200)
        for field in fields(SoftmaxState):
            assert torch.equal(getattr(alone, field.name), getattr(state, field.name)), field.name


def test_a_list_of_nearest_images_that_goes_along_is_the_merged_one():
    images, _ = stored(900, 32)
    directions_VD = directions(6, 32)
    merged, along = empty_state(6, 32, nearest=8), empty_state(6, 32, nearest=8)
    nearest_PVk = along.nearest_PVk
    along.nearest_PVk = nearest_PVk[..., :0]
    for rows in torch.arange(900).split(100):
        one, other = empty_state(6, 32, nearest=8), empty_state(6, 32, nearest=8)
        other.nearest_PVk = nearest_PVk
        for state in (one, other):
            attend([state], [directions_VD], rows_of(images, rows), beta=BETA)
        nearest_PVk, other.nearest_PVk = other.nearest_PVk, nearest_PVk[..., :0]
        merged, along = merge(merged, one), merge(along, other)
    along.nearest_PVk = nearest_PVk
    for field in fields(SoftmaxState):
        assert torch.equal(getattr(merged, field.name), getattr(along, field.name)), field.name


def test_stored_images_must_be_sorted_by_partition():
    images = Images(torch.ones(3, 4), torch.ones(3), torch.tensor([2, 0, 1], dtype=torch.uint8), torch.arange(3))
    with pytest.raises(ValueError, match="sorted by partition"):
        attend([empty_state(2, 4)], [directions(2, 4)], images, beta=BETA)


@pytest.mark.parametrize(("scores", "loss", "norm"), [("float32", 4e-11, 5e-6), ("bfloat16", 3e-4, 2e-3)])
def test_the_stated_error_of_each_arithmetic(scores, loss: float, norm: float):
    unit_KD, norm_K, partition_K = bank(20_000, 512)
    directions_VD = directions(64, 512)
    state = empty_state(64, 512, nearest=8)
    update(state, directions_VD, unit_KD, norm_K, partition_K, offset=0, beta=BETA, scores=scores)
    expected_VD, _ = one_shot(directions_VD, unit_KD, norm_K)
    got_VD = finish(state, directions_VD).embedding_PVD[-1].double()
    assert (1 - cosine(got_VD, expected_VD)).max() <= loss
    assert (got_VD.norm(dim=1) / expected_VD.norm(dim=1) - 1).abs().max() <= norm


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="CUDA"):
        update(empty_state(1, 4), directions(1, 4), *bank(3, 4), offset=0, beta=BETA, scores="tf32")


@pytest.mark.parametrize(("filled", "halvings"), [((0, 1, 2, 3, 4), 10), ((0, 2, 3, 4), 3), ((1, 2, 4), 3), ((0, 3), 1)])
def test_half_agreement_is_the_mean_over_all_halvings(filled: tuple[int, ...], halvings: int):
    unit_KD, norm_K, _ = bank(600, 16)
    partition_K = torch.tensor(filled).repeat_interleave(600 // len(filled))
    directions_VD = directions(5, 16)
    got_V = project(directions_VD, unit_KD, norm_K, partition_K).half_agreement_V
    halves = {frozenset((frozenset(half), frozenset(filled) - set(half))) for half in combinations(filled, len(filled) // 2)}
    assert len(halves) == halvings
    expected = [
        cosine(
            *(
                one_shot(directions_VD, unit_KD[rows], norm_K[rows])[0]
                for rows in (torch.isin(partition_K, torch.tensor(list(half))) for half in pair)
            )
        )
        for pair in halves
    ]
    torch.testing.assert_close(got_V.double(), torch.stack(expected).mean(0), rtol=1e-5, atol=1e-6)


def test_half_agreement_survives_partitions_that_lie_far_apart():
    unit_KD = torch.eye(8)[torch.arange(5)]
    projection = project(unit_KD[:1], unit_KD, torch.ones(5), torch.arange(5), beta=2000.0)
    assert projection.half_agreement_V.isfinite().all()
    assert project(unit_KD[:1], unit_KD, torch.ones(5), torch.zeros(5).long()).half_agreement_V.isnan().all()
