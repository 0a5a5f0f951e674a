"""A language model one can compute by hand: a table of next-token probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def start(*tokens: int) -> Tensor:
    return torch.tensor(tokens, dtype=torch.float64)[:, None, None]


class Table:
    """A bigram model: the prefix's first number is the row to start from. It remembers sentences, and counts rows computed."""

    def __init__(self, probability_NN: list[list[float]]) -> None:
        self.log_NN = torch.tensor(probability_NN, dtype=torch.float64).log()
        self.rows: list[int] = []
        self.voxels: list[int] = []
        self.last_VM = torch.zeros(0, 0)

    def prefill(self, prefix_VPE: Tensor) -> Tensor:
        self.last_VM = prefix_VPE[:, :1, 0].long()
        return self.log_NN[self.last_VM[:, 0]] + 1.5  # logits are defined up to a constant

    def advance(self, source_VM: Tensor, token_VM: Tensor, alive_VM: Tensor) -> Tensor:
        assert len(self.last_VM) == len(source_VM)
        if self.last_VM.shape[1] > 1:
            former_VM = self.last_VM.gather(1, source_VM)
            assert (former_VM[alive_VM] >= 0).all(), "a sentence that was not computed goes on"
        self.last_VM = token_VM.masked_fill(~alive_VM, -1)
        self.rows.append(int(alive_VM.sum()))
        self.voxels.append(len(alive_VM))
        return self.log_NN[token_VM[alive_VM]]

    def keep(self, chosen_V: Tensor) -> None:
        self.last_VM = self.last_VM[chosen_V]
