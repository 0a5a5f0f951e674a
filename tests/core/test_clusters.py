"""Clusters of nearest pictures: planted ones come back, silhouettes are scikit-learn's, neighbours in a batch change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, silhouette_score
from torch import Tensor

from scuba_ray.core.clusters import find_clusters, project_clusters, silhouette, spherical_kmeans
from scuba_ray.core.projection import empty_state, finish, update

D = 32


def planted(sizes: tuple[int, ...], seed: int = 0, spread: float = 0.1) -> tuple[Tensor, np.ndarray]:
    """Unit rows around as many random directions as there are sizes, in random order, with the truth."""
    rng = np.random.default_rng(seed)
    centre_kD = np.linalg.qr(rng.normal(size=(D, D)))[0][: len(sizes)]
    truth_N = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows_ND = centre_kD[truth_N] + spread * rng.normal(size=(len(truth_N), D))
    return torch.nn.functional.normalize(torch.tensor(rows_ND, dtype=torch.float32), dim=1), truth_N


def everything(unit_VND: Tensor) -> Tensor:
    return torch.ones(unit_VND.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("sizes", [(25, 25), (40, 10), (20, 17, 13), (15, 15, 10, 10), (45, 3, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_planted_clusters_and_their_number_come_back(sizes: tuple[int, ...], seed: int) -> None:
    unit_ND, truth_N = planted(sizes, seed)
    found = find_clusters(unit_ND[None], everything(unit_ND[None]), seed=seed)
    assert int(found.count_V[0]) == len(sizes)
    assert adjusted_rand_score(truth_N, found.label_VN[0]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_one_direction_is_one_cluster(seed: int) -> None:
    unit_ND, _ = planted((50,), seed)
    found = find_clusters(unit_ND[None], everything(unit_ND[None]))
    assert int(found.count_V[0]) == 1 and found.label_VN.unique().tolist() == [0]
    assert float(found.silhouette_V[0]) < 0.2, "the best division there is was not good enough"


@pytest.mark.parametrize("k", [2, 3, 4])
def test_silhouettes_are_those_of_scikit_learn(k: int) -> None:
    unit_ND, _ = planted((20, 5, 1), spread=0.3)
    label_N = np.random.default_rng(k).integers(0, k, len(unit_ND))
    label_N[:k] = np.arange(k)
    label_N[label_N == k - 1] = 0
    label_N[7] = k - 1  # a picture alone in its cluster counts 0
    wanted = silhouette_score(unit_ND.numpy(), label_N, metric="cosine")
    got = silhouette((unit_ND @ unit_ND.T)[None], torch.tensor(label_N)[None], k)
    assert float(got[0]) == pytest.approx(wanted, abs=1e-5)


def test_no_picture_is_nearer_to_another_centre() -> None:
    unit_ND, _ = planted((12, 11, 9), spread=0.6)
    label_N = spherical_kmeans((unit_ND @ unit_ND.T)[None], everything(unit_ND[None]), 3, seed=0)[0]
    centre_kD = torch.stack([torch.nn.functional.normalize(unit_ND[label_N == k].sum(0), dim=0) for k in range(3)])
    torch.testing.assert_close((unit_ND @ centre_kD.T).argmax(1), label_N)


def test_a_voxel_does_not_depend_on_its_neighbours_and_absent_rows_count_for_nothing() -> None:
    one, two = planted((30, 20), 1)[0], planted((50,), 2)[0]
    short_ND, _ = planted((9, 8), 3)
    padded_ND = torch.cat([short_ND, torch.randn(33, D)])
    present_VN = everything(torch.stack([one, two, padded_ND]))
    present_VN[2, 17:] = False
    together = find_clusters(torch.stack([one, two, padded_ND]), present_VN)
    for index, alone in enumerate((one, two, short_ND)):
        single = find_clusters(alone[None], everything(alone[None]))
        assert torch.equal(together.label_VN[index, : len(alone)], single.label_VN[0])
        assert int(together.count_V[index]) == int(single.count_V[0])
    assert together.label_VN[2, 17:].tolist() == [-1] * 33


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_or_equal_pictures_are_one_concept(rows: int) -> None:
    unit_ND = torch.nn.functional.normalize(torch.ones(rows, D), dim=1)
    found = find_clusters(unit_ND[None], everything(unit_ND[None]))
    assert int(found.count_V[0]) == 1


def test_no_voxels_are_no_clusters() -> None:
    found = find_clusters(torch.empty(0, 5, D), torch.empty(0, 5, dtype=torch.bool))
    assert found.label_VN.shape == (0, 5)


def test_a_cluster_is_projected_as_a_bank_of_its_own() -> None:
    unit_ND, truth_N = planted((20, 12), spread=0.4)
    norm_N = torch.rand(32) + 5
    direction_D = torch.nn.functional.normalize(torch.randn(D, generator=torch.Generator().manual_seed(1)), dim=0)
    cos_N = unit_ND @ direction_D
    embedding_VkD, share_Vk = project_clusters(
        (unit_ND * norm_N[:, None])[None], cos_N[None], torch.tensor(truth_N)[None], beta=40, clusters=3
    )
    for k in range(2):
        mine = torch.tensor(truth_N == k)
        state = empty_state(1, D, partitions=1, nearest=1)
        parts = torch.zeros(int(mine.sum()), dtype=torch.int64)
        update(state, direction_D[None], unit_ND[mine], norm_N[mine], parts, offset=0, beta=40)
        torch.testing.assert_close(
            embedding_VkD[0, k], finish(state, direction_D[None]).embedding_PVD[-1, 0], rtol=1e-4, atol=1e-5
        )
        assert float(share_Vk[0, k]) == pytest.approx(float(torch.softmax(40 * cos_N, 0)[mine].sum()), rel=1e-4)
    assert share_Vk[0, 2] == 0 and not embedding_VkD[0, 2].any()
