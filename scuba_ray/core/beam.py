"""CLIPCap's beam search, token for token, for many voxels at once.

The rule (published `generate_beam`): M beams, ranked at *every* step by mean log-probability, sum / length; a beam that has
emitted the stop token goes on with token 0 at log-probability 0, its length frozen; the search ends when all beams of a voxel
have stopped, or at the token limit. Hugging Face's beam search ranks otherwise and finds other sentences.

What is ours is only the work saved: prefixes run once and are expanded to beams afterwards, a cache holds what was computed,
stopped beams are not computed and finished voxels leave the batch. All prefixes have one length, so rows never pad each other,
and a row's result does not depend on the rows beside it (beyond the rounding of matrix products of another shape).

One beam is greedy decoding. That is also what the published `generate2` does: it cuts the distribution to its nucleus and then
takes the likeliest token of it (`core/sampling.py` draws from it).

    V voxels still searched   M beams   R rows alive (one per beam that has not stopped)   N vocabulary   L tokens so far
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from scuba_ray.core.decoding import LEAVE, Sentences, TokenModel, none_found, record


@dataclass
class _Search:
    """The voxels still in the batch. `source_VM` is which of its voxel's former beams a beam continues."""

    voxel_V: Tensor
    done_V: Tensor
    token_VML: Tensor
    score_VM: Tensor
    length_VM: Tensor
    stopped_VM: Tensor
    source_VM: Tensor

    def keep(self, chosen_V: Tensor) -> _Search:
        return _Search(*(getattr(self, field.name)[chosen_V] for field in fields(self)))


def beam_search(
    model: TokenModel, prefix_VPE: Tensor, *, stop: int, beams: int = 5, max_tokens: int = 67, temperature: float = 1.0
) -> Sentences:
    """Decode V prefixes by the published rule.

    Parameters
    ----------
    model
        The language model.
    prefix_VPE
        Prefix embeddings, (V, P, E).
    stop
        Token that ends a beam; it is part of the sentence.
    beams
        M; at most the size of the vocabulary. 1 is greedy decoding.
    max_tokens
        Longest sentence, in tokens.
    temperature
        Logits are divided by it.

    Returns
    -------
    Sentences
        Of shape (V, M, max_tokens) and (V, M), on the device of the prefixes.
    """
    if not len(prefix_VPE):
        return none_found(0, beams, max_tokens, prefix_VPE)
    search = _first(*_likeliest(model.prefill(prefix_VPE), beams, temperature), stop)
    found = none_found(len(prefix_VPE), beams, max_tokens, search.score_VM)
    for _ in range(max_tokens - 1):
        done_V = search.stopped_VM.all(dim=1)
        _record(found, search.keep(done_V & ~search.done_V))
        search.done_V = done_V
        finished = int(done_V.sum())
        if finished == len(done_V):
            return found
        if LEAVE * finished >= len(done_V):
            model.keep(~done_V)
            search = search.keep(~done_V)
        alive_VM = ~search.stopped_VM
        logits_RN = model.advance(search.source_VM, search.token_VML[:, :, -1], alive_VM)
        search = _next(search, *_likeliest(logits_RN, beams, temperature), alive_VM, stop)
    _record(found, search.keep(~search.done_V))
    return found


def _likeliest(logits_RN: Tensor, count: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities and tokens of each row's `count` likeliest tokens, both (R, count). Overwrites the logits."""
    top_RM, token_RM = logits_RN.topk(count, dim=1)
    peak_R1 = top_RM[:, :1]
    # In place: at 50,257 tokens every copy of the logits costs more than what is computed with it.
    total_R1 = logits_RN.sub_(peak_R1).div_(temperature).exp_().sum(dim=1, keepdim=True)
    return (top_RM - peak_R1) / temperature - total_R1.log(), token_RM


def _first(score_VM: Tensor, token_VM: Tensor, stop: int) -> _Search:
    """Open M beams per voxel with its M likeliest tokens."""
    return _Search(
        voxel_V=torch.arange(len(token_VM), device=token_VM.device),
        done_V=torch.zeros(len(token_VM), dtype=torch.bool, device=token_VM.device),
        token_VML=token_VM[:, :, None],
        score_VM=score_VM,
        length_VM=torch.ones_like(token_VM),
        stopped_VM=token_VM == stop,
        source_VM=torch.zeros_like(token_VM),
    )


def _next(search: _Search, gain_RM: Tensor, token_RM: Tensor, alive_VM: Tensor, stop: int) -> _Search:
    """Extend every beam by one token and keep the M best per voxel by mean log-probability."""
    voxels, beams = search.score_VM.shape
    # Only a beam's own M likeliest tokens can be among the M best of all beams. A stopped beam has one: token 0, at no cost.
    gain_VMM = search.score_VM.new_full((voxels, beams, beams), -torch.inf)
    gain_VMM[:, :, 0] = 0
    token_VMM = torch.zeros_like(gain_VMM, dtype=torch.int64)
    gain_VMM[alive_VM], token_VMM[alive_VM] = gain_RM, token_RM
    length_VM = search.length_VM + alive_VM
    mean_VMM = (search.score_VM[:, :, None] + gain_VMM) / length_VM[:, :, None]
    mean_VM, place_VM = mean_VMM.flatten(1).topk(beams, dim=1)
    source_VM = place_VM // beams
    length_VM = length_VM.gather(1, source_VM)
    token_VM = token_VMM.flatten(1).gather(1, place_VM)
    history_VML = search.token_VML.gather(1, source_VM[:, :, None].expand(-1, -1, search.token_VML.shape[2]))
    return _Search(
        voxel_V=search.voxel_V,
        done_V=search.done_V,
        token_VML=torch.cat([history_VML, token_VM[:, :, None]], dim=2),
        score_VM=mean_VM * length_VM,  # as published: the sum is got back from the mean
        length_VM=length_VM,
        stopped_VM=search.stopped_VM.gather(1, source_VM) | (token_VM == stop),
        source_VM=source_VM,
    )


def _record(found: Sentences, search: _Search) -> None:
    record(found, search.voxel_V, search.token_VML, search.length_VM, search.score_VM / search.length_VM)
