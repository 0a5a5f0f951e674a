"""CLIPCap's beam search, token for token, for many voxels at once.

The rule (published `generate_beam`): M beams, ranked at *every* step by mean log-probability, sum / length; a beam that has
emitted the stop token goes on with token 0 at log-probability 0, its length frozen; the search ends when all beams of a voxel
have stopped, or at the token limit. Hugging Face's beam search ranks otherwise and finds other sentences.

What is ours is only the work saved: prefixes run once and are expanded to beams afterwards, a cache holds what was computed,
stopped beams and finished voxels leave the batch. All prefixes have one length, so rows never pad each other, and a row's
result does not depend on the rows beside it (beyond the rounding of matrix products of another shape).

    V voxels still searched   M beams   R rows alive (one per beam that has not stopped)   N vocabulary   L tokens so far
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Step(Protocol):
    """A language model with a cache of keys and values, one cache row per sequence."""

    def prefill(self, prefix_VPE: Tensor) -> Tensor:
        """Begin V sequences with their prefix embeddings; return logits (V, N) of the next token."""
        ...

    def advance(self, source_R: Tensor, token_R: Tensor) -> Tensor:
        """Let row r continue the former row `source_R[r]` with `token_R[r]`; return logits (R, N) of the token after it."""
        ...


@dataclass(frozen=True)
class Beams:
    """All beams of every voxel, best first. `token_VML` holds 0 from each beam's length on."""

    token_VML: Tensor
    length_VM: Tensor
    logprob_VM: Tensor
    """Mean log-probability of a beam's tokens."""


@dataclass
class _Search:
    """The voxels still searched. `row_VM` is a beam's row in the cache (meaningless once it has stopped)."""

    voxel_V: Tensor
    token_VML: Tensor
    score_VM: Tensor
    length_VM: Tensor
    stopped_VM: Tensor
    row_VM: Tensor

    def keep(self, chosen_V: Tensor) -> _Search:
        return _Search(*(getattr(self, name)[chosen_V] for name in self.__dataclass_fields__))


def beam_search(
    step: Step, prefix_VPE: Tensor, *, stop: int, beams: int = 5, max_tokens: int = 67, temperature: float = 1.0
) -> Beams:
    """Decode V prefixes by the published rule.

    Parameters
    ----------
    step
        The language model. Logits are used in the precision they come in (float32 at least is advised).
    prefix_VPE
        Prefix embeddings, (V, P, E).
    stop
        Token that ends a beam; it is part of the sentence.
    beams
        M; at most the size of the vocabulary.
    max_tokens
        Longest sentence, in tokens.
    temperature
        Logits are divided by it.

    Returns
    -------
    Beams
        Of shape (V, M, max_tokens) and (V, M), on the device of the prefixes.
    """
    voxels, device = prefix_VPE.shape[0], prefix_VPE.device
    if voxels == 0:
        empty = torch.zeros(0, beams, device=device)
        return Beams(empty.new_zeros(0, beams, max_tokens, dtype=torch.int64), empty.long(), empty)
    search = _first(step.prefill(prefix_VPE) / temperature, beams, stop)
    found = Beams(
        token_VML=search.token_VML.new_zeros(voxels, beams, max_tokens),
        length_VM=torch.zeros_like(search.token_VML[:, :, 0]),
        logprob_VM=torch.zeros_like(search.score_VM),
    )
    for _ in range(max_tokens - 1):
        done_V = search.stopped_VM.all(dim=1)
        if done_V.any():
            _record(found, search.keep(done_V))
            search = search.keep(~done_V)
            if not len(search.voxel_V):
                return found
        alive_VM = ~search.stopped_VM
        logits_RN = step.advance(search.row_VM[alive_VM], search.token_VML[:, :, -1][alive_VM])
        search = _next(search, logits_RN / temperature, alive_VM, stop)
    _record(found, search)
    return found


def _first(logits_VN: Tensor, beams: int, stop: int) -> _Search:
    """Open M beams per voxel with its M likeliest tokens."""
    score_VM, token_VM = _likeliest(logits_VN, beams)
    voxel_V = torch.arange(len(logits_VN), device=logits_VN.device)
    return _Search(
        voxel_V=voxel_V,
        token_VML=token_VM[:, :, None],
        score_VM=score_VM,
        length_VM=torch.ones_like(token_VM),
        stopped_VM=token_VM == stop,
        row_VM=voxel_V[:, None].expand(-1, beams),
    )


def _next(search: _Search, logits_RN: Tensor, alive_VM: Tensor, stop: int) -> _Search:
    """Extend every beam by one token and keep the M best per voxel by mean log-probability."""
    voxels, beams = search.score_VM.shape
    # Only a beam's own M likeliest tokens can be among the M best of all beams. A stopped beam has one: token 0, at no cost.
    gain_VMM = search.score_VM.new_full((voxels, beams, beams), -torch.inf)
    gain_VMM[:, :, 0] = 0
    token_VMM = torch.zeros_like(gain_VMM, dtype=torch.int64)
    gain_VMM[alive_VM], token_VMM[alive_VM] = _likeliest(logits_RN, beams)
    length_VM = search.length_VM + alive_VM
    mean_VMM = (search.score_VM[:, :, None] + gain_VMM) / length_VM[:, :, None]
    mean_VM, place_VM = mean_VMM.flatten(1).topk(beams, dim=1)
    source_VM = place_VM // beams

    def of_source(value_VM: Tensor) -> Tensor:
        return value_VM.gather(1, source_VM)

    length_VM = of_source(length_VM)
    token_VM = token_VMM.flatten(1).gather(1, place_VM)
    row_VM = torch.zeros_like(search.row_VM)
    row_VM[alive_VM] = torch.arange(len(logits_RN), device=logits_RN.device)
    history_VML = search.token_VML.gather(1, source_VM[:, :, None].expand(-1, -1, search.token_VML.shape[2]))
    return _Search(
        voxel_V=search.voxel_V,
        token_VML=torch.cat([history_VML, token_VM[:, :, None]], dim=2),
        score_VM=mean_VM * length_VM,  # as published: the sum is got back from the mean
        length_VM=length_VM,
        stopped_VM=of_source(search.stopped_VM) | (token_VM == stop),
        row_VM=of_source(row_VM),
    )


def _likeliest(logits_RN: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities and tokens of each row's `count` likeliest tokens, both (R, count)."""
    top_RM, token_RM = logits_RN.topk(count, dim=1)
    return top_RM - logits_RN.logsumexp(dim=1, keepdim=True), token_RM


def _record(found: Beams, search: _Search) -> None:
    """Write finished voxels into the result, best beam first."""
    logprob_VM, order_VM = (search.score_VM / search.length_VM).sort(dim=1, descending=True, stable=True)
    length_VM = search.length_VM.gather(1, order_VM)
    limit = search.token_VML.shape[2]
    token_VML = search.token_VML.gather(1, order_VM[:, :, None].expand(-1, -1, limit))
    beyond_VML = torch.arange(limit, device=length_VM.device) >= length_VM[:, :, None]
    found.token_VML[search.voxel_V, :, :limit] = token_VML.masked_fill(beyond_VML, 0)
    found.length_VM[search.voxel_V] = length_VM
    found.logprob_VM[search.voxel_V] = logprob_VM
