"""Nucleus sampling (Holtzman et al. 2020): sentences drawn token by token from the likeliest that hold `top_p` of the mass.

CLIPCap's published `generate2` cuts to the nucleus too, and then takes its likeliest token: that is greedy decoding, whatever
`top_p` is. Here a token is drawn.

The draws are a function of (seed, voxel's key, sample, token's place) and of nothing else: a counter-based hash (splitmix64)
gives one uniform number for each, no generator has a state, so a voxel's sentences depend neither on its neighbours nor on the
order of voxels or batches. A draw inverts the cumulative distribution, so probabilities that differ by rounding give the same
token, but for a draw within that rounding of a boundary.

    V voxels   M samples per voxel   R rows alive   N vocabulary   L tokens so far
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scuba_ray.core.decoding import LEAVE, Sentences, TokenModel, none_found, record

HEAD = 512
"""Likeliest tokens looked at before all are sorted; trained models keep the nucleus well inside."""
FLAT = 64
"""Rows whose tokens are all sorted at a time: that takes seven times the memory of their logits."""


def nucleus_sample(
    model: TokenModel, prefix_VPE: Tensor, keys: Sequence[str], *,
    stop: int, samples: int = 5, top_p: float = 0.9, seed: int = 0, max_tokens: int = 67, temperature: float = 1.0,
) -> Sentences:  # fmt: skip
    """Draw M sentences for each of V prefixes.

    Parameters
    ----------
    model
        The language model.
    prefix_VPE
        Prefix embeddings, (V, P, E).
    keys
        V names; prefixes of equal name draw with equal numbers.
    stop
        Token that ends a sentence; it is part of it.
    samples
        M.
    top_p
        Mass of the nucleus, in (0, 1]: the smallest set of likeliest tokens that holds at least that much. 1 draws from all.
    seed
        Another seed draws other sentences.
    max_tokens
        Longest sentence, in tokens.
    temperature
        Logits are divided by it before the nucleus is cut.

    Returns
    -------
    Sentences
        Of shape (V, M, max_tokens) and (V, M), by mean log-probability, best first, equal ones as often as they were drawn.
        Log-probabilities are those of the whole distribution, not of the nucleus, so that beams compare with them.
    """
    voxels, device = len(prefix_VPE), prefix_VPE.device
    if not voxels:
        return none_found(0, samples, max_tokens, prefix_VPE)
    uniform_VML = torch.from_numpy(uniforms(keys, samples, max_tokens, seed)).to(device)
    token_VM, score_VM = _draw(model.prefill(prefix_VPE), uniform_VML[:, :, 0], top_p, temperature)
    found = none_found(voxels, samples, max_tokens, score_VM)
    drawn = _Samples(
        voxel_V=torch.arange(voxels, device=device),
        uniform_VML=uniform_VML,
        token_VML=token_VM[:, :, None],
        score_VM=score_VM,
        length_VM=torch.ones_like(token_VM),
        alive_VM=token_VM != stop,
    )
    for place in range(1, max_tokens):
        going_V = drawn.alive_VM.any(dim=1)
        if LEAVE * int((~going_V).sum()) >= len(going_V):
            _record(found, drawn.keep(~going_V))
            drawn = drawn.keep(going_V)
            if not len(drawn.voxel_V):
                return found
            model.keep(going_V)
        _extend(model, drawn, place=place, stop=stop, top_p=top_p, temperature=temperature)
    _record(found, drawn)
    return found


@dataclass
class _Samples:
    """The voxels still in the batch."""

    voxel_V: Tensor
    uniform_VML: Tensor
    token_VML: Tensor
    score_VM: Tensor
    length_VM: Tensor
    alive_VM: Tensor

    def keep(self, chosen_V: Tensor) -> _Samples:
        return _Samples(*(getattr(self, field.name)[chosen_V] for field in fields(self)))


def _extend(model: TokenModel, drawn: _Samples, *, place: int, stop: int, top_p: float, temperature: float) -> None:
    """Draw the token at `place` of every sentence that is alive."""
    alive_VM, read_VM = drawn.alive_VM, drawn.token_VML[:, :, -1]
    source_VM = torch.arange(read_VM.shape[1], device=read_VM.device).expand_as(read_VM)
    logits_RN = model.advance(source_VM, read_VM, alive_VM)
    token_R1, gain_R1 = _draw(logits_RN, drawn.uniform_VML[:, :, place][alive_VM][:, None], top_p, temperature)
    token_VM = torch.zeros_like(read_VM)
    token_VM[alive_VM] = token_R1[:, 0]
    drawn.score_VM[alive_VM] += gain_R1[:, 0]
    drawn.token_VML = torch.cat([drawn.token_VML, token_VM[:, :, None]], dim=2)
    drawn.length_VM = drawn.length_VM + alive_VM
    drawn.alive_VM = alive_VM & (token_VM != stop)


def _draw(logits_RN: Tensor, uniform_RK: Tensor, top_p: float, temperature: float) -> tuple[Tensor, Tensor]:
    """K tokens per row and their log-probabilities, both (R, K). Overwrites the logits."""
    top_RH, token_RH = logits_RN.div_(temperature).topk(min(HEAD, logits_RN.shape[1]), dim=1)
    mass_RN = logits_RN.sub_(top_RH[:, :1]).exp_()
    total_R1 = mass_RN.sum(dim=1, keepdim=True)
    p_RH = (top_RH - top_RH[:, :1]).exp_() / total_R1
    found_RK, p_RK = _pick(p_RH, token_RH, uniform_RK, top_p)
    if token_RH.shape[1] < logits_RN.shape[1]:
        for row_F in torch.split((p_RH.sum(dim=1) < top_p).nonzero().squeeze(1), FLAT):
            p_FN, token_FN = (mass_RN[row_F] / total_R1[row_F]).sort(dim=1, descending=True, stable=True)
            found_RK[row_F], p_RK[row_F] = _pick(p_FN, token_FN, uniform_RK[row_F], top_p)
    return found_RK, p_RK.log()


def _pick(p_RH: Tensor, token_RH: Tensor, uniform_RK: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Invert the cumulative distribution of the nucleus of probabilities that fall from left to right."""
    up_to_RH = p_RH.cumsum(dim=1)
    inside_RH = up_to_RH - p_RH < top_p
    last_R1 = inside_RH.sum(dim=1, keepdim=True) - 1
    wanted_RK = uniform_RK.to(p_RH.dtype) * up_to_RH.gather(1, last_R1)
    place_RK = torch.searchsorted(up_to_RH, wanted_RK, right=True).minimum(last_R1)
    return token_RH.gather(1, place_RK), p_RH.gather(1, place_RK)


def uniforms(keys: Sequence[str], samples: int, places: int, seed: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) for each of V keys, M samples and L places, (V, M, L); each depends on its own three and the seed."""
    digests = [hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest() for key in keys]
    stream_V = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
    counter_ML = (np.arange(samples, dtype=np.uint64)[:, None] << np.uint64(32)) + np.arange(1, places + 1, dtype=np.uint64)
    mixed_VML = _splitmix(np.add(stream_V[:, None, None], counter_ML * np.uint64(0x9E3779B97F4A7C15)))
    return (mixed_VML >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _splitmix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of splitmix64 (Steele, Lea and Flood 2014): neighbouring states come out unrelated."""
    first = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    second = (first ^ (first >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return second ^ (second >> np.uint64(31))


def _record(found: Sentences, drawn: _Samples) -> None:
    record(found, drawn.voxel_V, drawn.token_VML, drawn.length_VM, drawn.score_VM / drawn.length_VM)
