"""Projection on a voxel's nearest images only, with a bound on the softmax mass of all others (METHOD section 3).

Of a voxel's k candidates the scores, and so everything a softmax state holds, are computed anew in float32 from the stored
embeddings. Every other image scores at most the floor s_k, the score of the last candidate. So the K - k others together have

    M <= (K - k) exp(beta (s_k - s_1)),      missing share <= M / (Z + M),      Z = sum over candidates of exp(beta (s_j - s_1))

and the same holds inside a partition, for its own K, k, s_1 and Z: its other images are among the others of the whole bank.
From an exact index the bound is certified. An approximate one (IVF, PQ) misses images that may score higher than s_k. Nothing
bounds their mass; it is estimated by the recall measured for the index, as if the images missed had their share of the mass:
1 - recall of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scuba_ray.core.nearest import ABSENT, encode
from scuba_ray.core.projection import Projection, finish
from scuba_ray.core.states import SoftmaxState, combine, partition_of


@dataclass(frozen=True)
class Candidates:
    """The images that voxels V are projected on, k for each. `V * k * D * 4` bytes."""

    unit_VkD: Tensor
    """Embeddings divided by their norms, float32."""
    norm_Vk: Tensor
    partition_Vk: Tensor
    index_Vk: Tensor
    """Global indices of the images, different in a row; -1 where there are fewer than k."""
    floor_V: Tensor
    """The score no other image exceeds, as the search has it: that of the last candidate. NaN if there is none."""


@dataclass(frozen=True)
class Truncated:
    """A projection on candidates, and how much it may have left out."""

    projection: Projection
    missing_mass_PV: Tensor
    """Largest share of the softmax mass that images left out can have (an estimate if the recall is below 1), per partition and
    last for the whole bank; float64. 0 where none is left out, 1 where a partition has images and none is a candidate."""
    log_mass_PV: Tensor
    """log Z + beta s_1, the logarithm of the mass the candidates have; float64."""


def truncate(
    candidates: Candidates, directions_VD: Tensor, count_P: Tensor, *, beta: float, nearest: int, recall: float = 1.0
) -> Truncated:
    """Project voxels on their candidates.

    Parameters
    ----------
    candidates : Candidates
    directions_VD : Tensor of shape (V, D), float32
        Unit rows, as for `core.projection.update`.
    count_P : Tensor of shape (P,), int64
        Images of the bank in each partition.
    beta : float
        Inverse temperature. The paper uses 150.
    nearest : int
        Nearest images kept. A partition with fewer candidates has as many fewer.
    recall : float
        Share of the nearest images that the search finds; 1 for an exact one.

    Returns
    -------
    Truncated
        Rounding of the scores in float32 is part of the bound: `D * 2^-23` is added to the floor, for search and rescoring. A
        search by codes (PQ) has other scores than the embeddings: the floor is then the larger of both last scores.
    """
    score_Vk = torch.bmm(candidates.unit_VkD, directions_VD[:, :, None])[:, :, 0]
    state, kept_PV = _state(candidates, score_Vk, count_P, beta, nearest)
    whole = combine([partition_of(state, partition) for partition in range(len(count_P))])
    log_mass_PV = torch.cat([log_mass(state), log_mass(whole)])
    left_PV = torch.cat([count_P[:, None] - kept_PV, (count_P[:, None] - kept_PV).sum(0, keepdim=True)])
    last_V = torch.where(candidates.index_Vk >= 0, score_Vk, torch.inf).amin(1)
    floor_V = torch.maximum(candidates.floor_V, last_V).double() + directions_VD.shape[1] * torch.finfo(torch.float32).eps
    log_left_PV = left_PV.double().log() + beta * floor_V
    bound_PV = torch.sigmoid(log_left_PV - log_mass_PV)
    missing_PV = torch.where(left_PV > 0, bound_PV + (1 - bound_PV) * (1 - recall), 0.0)
    return Truncated(finish(state, directions_VD), missing_PV, log_mass_PV)


def log_mass(state: SoftmaxState) -> Tensor:
    """Logarithm of the sum of exp(beta v.u) over a state's images, (P, V) in float64; -inf where it has none."""
    return state.peak_PV.double() + state.mass_PV.double().log()


def _state(candidates: Candidates, score_Vk: Tensor, count_P: Tensor, beta: float, nearest: int) -> tuple[SoftmaxState, Tensor]:
    """The softmax state of the candidates, and how many of each partition there are, (P, V).

    `count` is the bank's, so that a partition without candidates is not taken for one without images.
    """
    there_Vk = candidates.index_Vk >= 0
    mine_VPk = candidates.partition_Vk[:, None, :] == torch.arange(len(count_P), device=score_Vk.device)[:, None]
    mine_VPk = mine_VPk & there_Vk[:, None, :]
    logit_VPk = torch.where(mine_VPk, beta * score_Vk[:, None, :], -torch.inf)
    peak_VP = logit_VPk.amax(2)
    e_VPk = torch.where(mine_VPk, torch.exp(logit_VPk - peak_VP[..., None]), 0.0)
    mass_VP = e_VPk.sum(2)
    p_VPk = e_VPk / torch.where(mass_VP > 0, mass_VP, 1.0)[..., None]
    key_VPk = encode(score_Vk[:, None, :].expand_as(e_VPk), torch.where(mine_VPk, candidates.index_Vk[:, None, :], -1))
    key_VPk = torch.topk(key_VPk, min(nearest, key_VPk.shape[2]), dim=2).values
    key_VPk = torch.nn.functional.pad(key_VPk, (0, nearest - key_VPk.shape[2]), value=ABSENT)
    state = SoftmaxState(
        count_P=count_P,
        peak_PV=peak_VP.T,
        mass_PV=mass_VP.T,
        square_PV=(e_VPk**2).sum(2).T,
        norm_PV=(p_VPk * candidates.norm_Vk[:, None, :]).sum(2).T,
        direction_PVD=torch.bmm(p_VPk, candidates.unit_VkD).transpose(0, 1),
        nearest_PVk=key_VPk.transpose(0, 1),
    )
    return state, mine_VPk.sum(2).T
