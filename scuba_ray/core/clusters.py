"""How many things a voxel's nearest pictures show: spherical k-means, the number of clusters by silhouette.

Everything is asked of cosines, so that the Gram matrix of a voxel's pictures is all that is needed and many voxels go at once:

    centre_c = sum_{i in c} x_i / |...|,   x_i joins argmax_c x_i . centre_c   (Dhillon and Modha 2001)
    silhouette_i = (b_i - a_i) / max(a_i, b_i),   distance 1 - x_i . x_j        (Rousseeuw 1987)

with a_i the mean distance to the rest of one's own cluster and b_i that to the nearest other one. Starts are drawn as k-means++
does, by the same numbers for every voxel: a voxel's clusters depend on its pictures alone, not on the voxels beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RESTARTS = 8
"""Starts per k; the one whose pictures lie nearest to their centres is kept."""
_ROUNDS = 50
"""Rounds of assignment at most. Each can only bring pictures nearer to their centres; 5 to 10 are usual."""


@dataclass(frozen=True)
class Clusters:
    """Clusters of N pictures for each of V voxels."""

    label_VN: Tensor
    """Cluster of each picture, 0 to k - 1, int64; -1 for pictures that are absent."""
    count_V: Tensor
    """k, int64: 1 where the pictures show one thing."""
    silhouette_V: Tensor
    """Mean silhouette of the best division into two or more, whether it was accepted or not; NaN where there is none."""


def find_clusters(unit_VND: Tensor, present_VN: Tensor, *, largest: int = 4, threshold: float = 0.2, seed: int = 0) -> Clusters:
    """Divide each voxel's pictures into clusters.

    Among 2 to `largest` clusters the k with the largest mean silhouette wins. Silhouettes cannot speak of k = 1, so it is the
    answer wherever the winner's is below `threshold`: the pictures then lie no nearer to their own cluster than to the others.

    Parameters
    ----------
    unit_VND : Tensor of shape (V, N, D), float32
        Unit rows.
    present_VN : Tensor of shape (V, N), bool
        Which rows are pictures; the others are ignored.
    largest : int
        Largest k tried.
    threshold : float
        Mean silhouette that a division into several must reach.
    seed : int
        Of the starts.

    Returns
    -------
    Clusters
        Memory: `V * N * N * 4` bytes and `V * N * RESTARTS * largest * 8`.
    """
    gram_VNN = unit_VND @ unit_VND.transpose(1, 2)
    label_VN = torch.where(present_VN, 0, -1)
    count_V = torch.ones(len(gram_VNN), dtype=torch.int64, device=gram_VNN.device)
    best_V = torch.full((len(gram_VNN),), torch.nan, device=gram_VNN.device)
    for k in range(2, largest + 1):
        found_VN = spherical_kmeans(gram_VNN, present_VN, k, seed)
        score_V = silhouette(gram_VNN, found_VN, k)
        better_V = score_V > best_V.nan_to_num(-torch.inf)
        best_V = torch.where(better_V, score_V, best_V)
        taken_V = better_V & (score_V >= threshold)
        label_VN = torch.where(taken_V[:, None], found_VN, label_VN)
        count_V = torch.where(taken_V, k, count_V)
    return Clusters(label_VN, count_V, best_V)


def project_clusters(
    embedding_VND: Tensor, cos_VN: Tensor, label_VN: Tensor, *, beta: float, clusters: int
) -> tuple[Tensor, Tensor]:
    """Project each cluster as a bank of its own (`core.projection`): softmax-weighted mean direction, weighted mean norm.

    Parameters
    ----------
    embedding_VND : Tensor of shape (V, N, D), float32
        Raw embeddings.
    cos_VN : Tensor of shape (V, N), float32
        Cosine of each with the voxel's weights.
    label_VN : Tensor of shape (V, N), int64
        Cluster of each, below `clusters`; -1 for none.
    beta : float
        Inverse temperature of the softmax.

    Returns
    -------
    embedding_VkD : Tensor of shape (V, clusters, D)
        Zero where a voxel has no such cluster.
    share_Vk : Tensor of shape (V, clusters)
        Share of the softmax over all of the voxel's clusters, 0 where it has no such cluster.
    """
    share_VN = torch.softmax(torch.where(label_VN >= 0, beta * cos_VN, -torch.inf), dim=1)
    member_VNk = torch.nn.functional.one_hot(label_VN.clamp(min=0), clusters) * (label_VN >= 0)[..., None]
    weight_VkN = (share_VN[..., None] * member_VNk).transpose(1, 2)
    share_Vk = weight_VkN.sum(2)
    within_VkN = weight_VkN / share_Vk.clamp(min=1e-30)[..., None]
    norm_VN = torch.linalg.vector_norm(embedding_VND, dim=2)
    direction_VkD = within_VkN @ torch.nn.functional.normalize(embedding_VND, dim=2)
    norm_Vk = (within_VkN @ norm_VN[..., None]).squeeze(2)
    return norm_Vk[..., None] * torch.nn.functional.normalize(direction_VkD, dim=2), share_Vk


def spherical_kmeans(gram_VNN: Tensor, present_VN: Tensor, k: int, seed: int) -> Tensor:
    """Labels (V, N), int64, of the best of `RESTARTS` starts; -1 where nothing is present.

    A voxel with fewer different pictures than `k` has fewer clusters.
    """
    generator = torch.Generator().manual_seed(seed)
    draw_Rk = torch.rand(RESTARTS, k, generator=generator, dtype=torch.float64).to(gram_VNN.device)
    chosen_VRk = _starts(gram_VNN.double(), present_VN, draw_Rk)
    voxels, pictures = present_VN.shape
    index = chosen_VRk.flatten(1)[:, None, :].expand(-1, pictures, -1)
    near_VNRk = gram_VNN.gather(2, index).view(voxels, pictures, RESTARTS, k)
    label_VNR = near_VNRk.argmax(3)
    for _ in range(_ROUNDS):
        member_VNRk = _members(label_VNR, present_VN, k)
        near_VNRk = _cosines(gram_VNN, member_VNRk)
        moved_VNR = near_VNRk.argmax(3)
        if torch.equal(moved_VNR, label_VNR):
            break
        label_VNR = moved_VNR
    reached_VR = (near_VNRk.amax(3) * present_VN[..., None]).sum(1)
    best_V = reached_VR.argmax(1)
    label_VN = label_VNR.gather(2, best_V[:, None, None].expand(-1, pictures, 1)).squeeze(2)
    return torch.where(present_VN, label_VN, -1)


def silhouette(gram_VNN: Tensor, label_VN: Tensor, k: int) -> Tensor:
    """Mean silhouette (V,) with the distance 1 - cosine; a picture alone in its cluster counts 0. NaN for a single cluster.

    Parameters
    ----------
    gram_VNN : Tensor of shape (V, N, N)
        Cosines of the pictures.
    label_VN : Tensor of shape (V, N), int64
        Cluster of each picture, below `k`; -1 is left out.
    """
    present_VN = label_VN >= 0
    member_VNk = _members(label_VN.clamp(min=0)[..., None], present_VN, k)[:, :, 0]
    size_Vk = member_VNk.sum(1)
    total_VNk = (1 - gram_VNN) @ member_VNk
    own_VN1 = label_VN.clamp(min=0)[..., None]
    self_VN = 1 - gram_VNN.diagonal(dim1=1, dim2=2)
    others_VN = (size_Vk.gather(1, own_VN1.squeeze(2)) - 1).clamp(min=1)
    within_VN = (total_VNk.gather(2, own_VN1).squeeze(2) - self_VN) / others_VN
    elsewhere_VNk = torch.where(size_Vk[:, None] > 0, total_VNk / size_Vk[:, None].clamp(min=1), torch.inf)
    between_VN = elsewhere_VNk.scatter(2, own_VN1, torch.inf).amin(2)
    value_VN = (between_VN - within_VN) / torch.maximum(between_VN, within_VN).clamp(min=1e-12)
    alone_VN = size_Vk.gather(1, own_VN1.squeeze(2)) == 1
    value_VN = torch.where(present_VN & ~alone_VN, value_VN, 0.0)
    several_V = (size_Vk > 0).sum(1) > 1
    return torch.where(several_V, value_VN.sum(1) / present_VN.sum(1).clamp(min=1), torch.nan)


def _starts(gram_VNN: Tensor, present_VN: Tensor, draw_Rk: Tensor) -> Tensor:
    """k-means++: the first picture at random, each next one in proportion to its distance to the nearest chosen so far."""
    voxels, pictures = present_VN.shape
    weight_VRN = present_VN.double()[:, None].expand(voxels, len(draw_Rk), pictures)
    far_VRN = torch.full_like(weight_VRN, torch.inf)
    chosen: list[Tensor] = []
    for draw_R in draw_Rk.T:
        mass_VRN = weight_VRN.cumsum(2)
        picked_VR = (mass_VRN <= draw_R[:, None] * mass_VRN[..., -1:]).sum(2).clamp(max=pictures - 1)
        chosen.append(picked_VR)
        distance_VRN = 1 - gram_VNN.gather(1, picked_VR[..., None].expand(-1, -1, pictures))
        far_VRN = torch.minimum(far_VRN, distance_VRN.clamp(min=0))
        weight_VRN = far_VRN * present_VN[:, None]
    return torch.stack(chosen, dim=2)


def _members(label_VNR: Tensor, present_VN: Tensor, k: int) -> Tensor:
    return torch.nn.functional.one_hot(label_VNR, k).float() * present_VN[..., None, None]


def _cosines(gram_VNN: Tensor, member_VNRk: Tensor) -> Tensor:
    """Cosine of every picture with every cluster's centre; -inf for a cluster without pictures."""
    sums_VNRk = (gram_VNN @ member_VNRk.flatten(2)).view_as(member_VNRk)
    squared_VRk = (sums_VNRk * member_VNRk).sum(1)
    length_VRk = squared_VRk.clamp(min=1e-12).sqrt()[:, None]
    return torch.where((member_VNRk.sum(1) > 0)[:, None], sums_VNRk / length_VRk, -torch.inf)
