"""What every rule of decoding shares: the language model it drives, and the sentences it finds.

V voxels decoded together   M sentences per voxel (beams, or samples)   R sentences that have not stopped (rows)
N vocabulary   P prefix vectors of width E   L tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LEAVE = 4
"""Finished voxels leave the batch when they are one in this many: leaving copies the cache, staying costs attention alone."""


class TokenModel(Protocol):
    """A language model that remembers what it has read, for M sentences of each of V voxels.

    All logits are float32 or float64, and the caller's to overwrite; they hold until the next call.
    """

    def prefill(self, prefix_VPE: Tensor) -> Tensor:
        """Forget everything, read V prefixes; return logits (V, N) of the first token."""
        ...

    def advance(self, source_VM: Tensor, token_VM: Tensor, alive_VM: Tensor) -> Tensor:
        """Let sentence m of voxel v continue its former sentence `source_VM[v, m]` with `token_VM[v, m]`.

        Return logits (R, N) of the token after it, for the sentences that are alive, in the order of `alive_VM`; the others
        are not computed, and never again alive. The first call after `prefill` makes M sentences of one: sources are not read.
        """
        ...

    def keep(self, chosen_V: Tensor) -> None:
        """Forget all voxels but the chosen ones (bool)."""
        ...


@dataclass(frozen=True)
class Sentences:
    """All sentences of every voxel, best first. `token_VML` holds 0 from each sentence's length on."""

    token_VML: Tensor
    length_VM: Tensor
    logprob_VM: Tensor
    """Mean log-probability of a sentence's tokens."""


def none_found(voxels: int, sentences: int, max_tokens: int, like: Tensor) -> Sentences:
    """Sentences of length 0 for `found` voxels to be written into; log-probabilities have the type of `like`."""
    logprob_VM = like.new_zeros(voxels, sentences)
    length_VM = torch.zeros_like(logprob_VM, dtype=torch.int64)
    return Sentences(length_VM[:, :, None].repeat(1, 1, max_tokens), length_VM, logprob_VM)


def record(found: Sentences, voxel_V: Tensor, token_VML: Tensor, length_VM: Tensor, logprob_VM: Tensor) -> None:
    """Write the sentences of finished voxels into the result, best first."""
    logprob_VM, order_VM = logprob_VM.sort(dim=1, descending=True, stable=True)
    length_VM = length_VM.gather(1, order_VM)
    limit = token_VML.shape[2]
    token_VML = token_VML.gather(1, order_VM[:, :, None].expand(-1, -1, limit))
    beyond_VML = torch.arange(limit, device=length_VM.device) >= length_VM[:, :, None]
    found.token_VML[voxel_V, :, :limit] = token_VML.masked_fill(beyond_VML, 0)
    found.length_VM[voxel_V] = length_VM
    found.logprob_VM[voxel_V] = logprob_VM
