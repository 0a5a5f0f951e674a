"""Zero-shot categories, percentiles and ranks, against the formula taken literally."""

from __future__ import annotations

import numpy as np
import torch

from scuba_ray.core.probe import falling_ranks, percentiles, zero_shot
from scuba_ray.core.scoring import percentile_among


def units(rows: int, dim: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def test_categories_are_those_of_the_loop() -> None:
    images, prompts = units(200, 8, 0), units(11, 8, 1)
    category = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3]
    best, mean = zero_shot(images, prompts, torch.tensor(category))
    for image, one, other in zip(images.double().numpy(), best.tolist(), mean.tolist(), strict=True):
        cosines = [[float(image @ prompts[row].double().numpy()) for row in range(11) if category[row] == c] for c in range(4)]
        assert one == int(np.argmax([max(values) for values in cosines]))
        assert other == int(np.argmax([np.mean(values) for values in cosines]))


def test_the_maximum_favours_long_lists_and_the_mean_does_not() -> None:
    images = units(4000, 16, 2)
    category = torch.tensor([0] * 12 + [1])
    best, mean = zero_shot(images, units(13, 16, 3), category)
    assert (best == 0).float().mean() > 0.85
    assert (mean == 0).float().mean() < 0.7


def test_percentiles_count_ties_half() -> None:
    natural = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert percentiles(torch.tensor([0.0, 2.0, 2.5, 9.0, 1.0]), natural).tolist() == [0, 50, 75, 100, 12.5]
    generator = np.random.default_rng(0)
    values, others = generator.integers(0, 20, 300) / 7, generator.integers(0, 20, 101) / 7
    wanted = [100 * (np.sum(others < value) + 0.5 * np.sum(others == value)) / len(others) for value in values]
    np.testing.assert_allclose(percentiles(torch.tensor(values), torch.tensor(others)), wanted, rtol=1e-6)
    rows = percentile_among(torch.tensor([[1.0, 2.0], [5.0, 6.0]]), torch.tensor([[1.5], [6.0]]))
    assert rows.tolist() == [[50.0], [75.0]]


def test_ranks_fall_and_ties_keep_their_order() -> None:
    assert falling_ranks(torch.tensor([0.1, 0.9, 0.1, 0.5])).tolist() == [2, 0, 3, 1]
    assert falling_ranks(torch.tensor([])).tolist() == []
