"""Divide a region's voxels by the directions of their weights: spherical k-means, and how many parts are stable.

    centre_c = sum_{i in c} x_i / |...|,   x_i joins argmax_c x_i . centre_c

This is the mixture of von Mises-Fisher distributions of one shared concentration with hard assignment (Banerjee et al. 2005),
whose concentration in D dimensions is estimated per part from the length R of its mean direction: R (D - R^2) / (1 - R^2).

Silhouettes of noisy directions hardly tell numbers of parts apart; stability does (prediction strength, Tibshirani and Walther
2005): voxels are halved at random, each half is divided on its own, and the parts that one half's centres give the other are held
against the other's own by the adjusted Rand index. The largest k that two halves agree on is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESTARTS = 8
"""Starts per division, as k-means++ draws them; the one whose rows lie nearest to their centres is kept."""
HALVINGS = 10
"""Random halvings per k."""
_ROUNDS = 100


def divide(unit_ND: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Labels (N,) int64 and unit centres (k, D) of a division into k parts, the largest first.

    Parameters
    ----------
    unit_ND : Tensor of shape (N, D)
        Unit rows, at least `k` of them. Identical rows can leave a part empty; its centre is then zero.
    seed : int
        Of the starts.
    """
    if len(unit_ND) < k:
        raise ValueError(f"{len(unit_ND)} rows cannot be divided into {k} parts")
    generator = torch.Generator().manual_seed(seed)
    found = [_once(unit_ND, k, generator) for _ in range(RESTARTS)]
    label_N, centre_kD = max(found, key=lambda one: float((unit_ND * one[1][one[0]]).sum()))
    order = torch.bincount(label_N, minlength=k).argsort(descending=True, stable=True)
    return order.argsort()[label_N], centre_kD[order]


def _once(unit_ND: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = [int(torch.randint(len(unit_ND), (), generator=generator))]
    for _ in range(k - 1):
        far_N = (1 - (unit_ND @ unit_ND[chosen].T).amax(1)).clamp(min=0)
        # of identical rows any is as good as any other
        far_N = far_N if float(far_N.sum()) > 0 else torch.ones_like(far_N)
        chosen.append(int(torch.multinomial(far_N, 1, generator=generator)))
    centre_kD = unit_ND[chosen]
    label_N = (unit_ND @ centre_kD.T).argmax(1)
    for _ in range(_ROUNDS):
        centre_kD = torch.nn.functional.normalize(torch.zeros_like(centre_kD).index_add_(0, label_N, unit_ND), dim=1)
        moved_N = (unit_ND @ centre_kD.T).argmax(1)
        if torch.equal(moved_N, label_N):
            break
        label_N = moved_N
    return label_N, centre_kD


def stability(unit_ND: Tensor, k: int, seed: int) -> float:
    """Mean adjusted Rand index of how two halves of the rows divide either of them; NaN for fewer than 2 k rows."""
    if len(unit_ND) < 2 * k:
        return float("nan")
    generator = torch.Generator().manual_seed(seed)
    agreed = []
    for halving in range(HALVINGS):
        order_N = torch.randperm(len(unit_ND), generator=generator)
        halves = order_N[: len(order_N) // 2], order_N[len(order_N) // 2 :]
        (first_N, first_kD), (second_N, second_kD) = (divide(unit_ND[half], k, seed + halving) for half in halves)
        agreed.append(adjusted_rand((unit_ND[halves[0]] @ second_kD.T).argmax(1), first_N))
        agreed.append(adjusted_rand((unit_ND[halves[1]] @ first_kD.T).argmax(1), second_N))
    return sum(agreed) / len(agreed)


def adjusted_rand(one_N: Tensor, other_N: Tensor) -> float:
    """Agreement of two divisions of the same rows: 1 if equal, 0 on average by chance (Hubert and Arabie 1985)."""
    table = torch.zeros(int(one_N.max()) + 1, int(other_N.max()) + 1, dtype=torch.float64)
    table.index_put_((one_N.cpu(), other_N.cpu()), torch.ones(len(one_N), dtype=torch.float64), accumulate=True)
    pairs, rows, columns = (float((count * (count - 1) / 2).sum()) for count in (table, table.sum(1), table.sum(0)))
    by_chance = rows * columns / max(len(one_N) * (len(one_N) - 1) / 2, 1)
    most = (rows + columns) / 2
    return 1.0 if most == by_chance else (pairs - by_chance) / (most - by_chance)


def concentration(unit_ND: Tensor) -> float:
    """Of the von Mises-Fisher distribution around the rows' mean direction; larger is narrower. NaN for rows that are one."""
    length = float(torch.linalg.vector_norm(unit_ND.double().mean(0)))
    return length * (unit_ND.shape[1] - length**2) / (1 - length**2) if length < 1 - 1e-6 else float("nan")
