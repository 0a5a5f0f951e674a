"""Keys of score and index, and the k best of a stream, against a plain sort."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scuba_ray.core.nearest import ABSENT, BLOCK, LARGEST_INDEX, add_tile, block_maxima, decode, encode

scores = st.floats(-1, 1, width=32)
indices = st.integers(0, LARGEST_INDEX)


@given(st.lists(st.tuples(scores, indices), min_size=1, max_size=30))
def test_keys_sort_by_score_then_by_falling_index_and_decode_exactly(images):
    score, index = torch.tensor([s for s, _ in images]), torch.tensor([i for _, i in images])
    key = encode(score, index)
    back = decode(key)
    assert torch.equal(back[0], score + 0.0)
    assert torch.equal(back[1], index)
    order = sorted(range(len(images)), key=lambda n: (-images[n][0], images[n][1]))
    assert torch.equal(key.sort(descending=True).values, key[order])


def test_no_image_sorts_last_and_decodes_to_nothing():
    key = encode(torch.tensor([-torch.inf, -1.0]), torch.tensor([-1, LARGEST_INDEX]))
    assert key[0] == ABSENT < key[1]
    score, index = decode(key)
    assert score.isnan().tolist() == [True, False]
    assert index.tolist() == [-1, LARGEST_INDEX]


@settings(max_examples=60, deadline=None)
@given(
    levels=st.integers(1, 50),  # few distinct scores: ties everywhere, far beyond the spare candidates
    k=st.integers(1, 40),
    blocks=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
)
def test_the_best_of_a_stream_are_those_of_a_sort_with_any_number_of_ties(levels, k, blocks, seed):
    generator = torch.Generator().manual_seed(seed)
    images = BLOCK * sum(blocks)
    scores_VK = torch.randint(levels, (3, images), generator=generator) / 50 - 0.5
    index_K = torch.randperm(images, generator=generator)
    key_Vk, start = torch.full((3, k), ABSENT), 0
    for count in blocks:
        tile = scores_VK[:, start : start + BLOCK * count].contiguous()
        key_Vk = add_tile(key_Vk, tile, block_maxima(tile), index_K[start : start + BLOCK * count])
        start += BLOCK * count
    expected = encode(scores_VK, index_K.expand(3, -1)).sort(dim=1, descending=True).values[:, :k]
    assert torch.equal(key_Vk[:, :images], expected)
    assert (key_Vk[:, images:] == ABSENT).all()
