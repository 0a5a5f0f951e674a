"""Straight ports of the published CLIPCap decoding loops: one voxel a call, no cache. The references our captions must equal.

The beam loop also keeps what float32 comparisons need: the smallest margin by which a beam entered or missed the kept set, or by
which two finished beams are ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Reference:
    tokens: list[list[int]]
    """Beams, best first, each cut at its length."""
    logprobs: list[float]
    margin: float


@torch.no_grad()
def generate_beam(  # noqa: PLR0917 (the published signature)
    gpt: torch.nn.Module,
    embed: Tensor,
    stop_token_index: int,
    beam_size: int = 5,
    entry_length: int = 67,
    temperature: float = 1.0,
    margins: bool = True,
) -> Reference:
    """`embed` is one prefix (1, P, E); `gpt` a GPT2LMHeadModel. Without `margins` it does nothing the original does not."""
    tokens = None
    scores = None
    margin = float("inf")
    seq_lengths = torch.ones(beam_size)
    is_stopped = torch.zeros(beam_size, dtype=torch.bool)
    generated = embed
    for _ in range(entry_length):
        logits = gpt(inputs_embeds=generated, use_cache=False).logits
        logits = logits[:, -1, :] / temperature
        logits = logits.softmax(-1).log()
        if scores is None:
            margin = min(margin, gap(logits.view(-1), beam_size)) if margins else margin
            scores, next_tokens = logits.topk(beam_size, -1)
            generated = generated.expand(beam_size, *generated.shape[1:])
            next_tokens, scores = next_tokens.permute(1, 0), scores.squeeze(0)
            tokens = next_tokens
        else:
            logits[is_stopped] = -float("inf")
            logits[is_stopped, 0] = 0
            scores_sum = scores[:, None] + logits
            seq_lengths[~is_stopped] += 1
            scores_sum_average = scores_sum / seq_lengths[:, None]
            margin = min(margin, gap(scores_sum_average.view(-1), beam_size)) if margins else margin
            scores_sum_average, next_tokens = scores_sum_average.view(-1).topk(beam_size, -1)
            next_tokens_source = next_tokens // scores_sum.shape[1]
            seq_lengths = seq_lengths[next_tokens_source]
            next_tokens = (next_tokens % scores_sum.shape[1]).unsqueeze(1)
            tokens = torch.cat((tokens[next_tokens_source], next_tokens), dim=1)
            generated = generated[next_tokens_source]
            scores = scores_sum_average * seq_lengths
            is_stopped = is_stopped[next_tokens_source]
        next_token_embed = gpt.transformer.wte(next_tokens.squeeze()).view(generated.shape[0], 1, -1)
        generated = torch.cat((generated, next_token_embed), dim=1)
        is_stopped = is_stopped | next_tokens.eq(stop_token_index).squeeze()
        if is_stopped.all():
            break
    scores = scores / seq_lengths
    order = scores.argsort(descending=True)
    ranked = scores[order]
    margin = min(margin, float((ranked[:-1] - ranked[1:]).min())) if beam_size > 1 else margin
    cut = [tokens[i, : int(seq_lengths[i])].tolist() for i in order]
    return Reference(cut, ranked.tolist(), margin)


@torch.no_grad()
def generate2(
    gpt: torch.nn.Module, embed: Tensor, stop_token_index: int, entry_length: int = 67, top_p: float = 0.8
) -> list[int]:
    """The published `generate2` at temperature 1: it removes all but the nucleus, and then takes the likeliest token."""
    tokens: list[int] = []
    generated = embed
    for _ in range(entry_length):
        logits = gpt(inputs_embeds=generated, use_cache=False).logits[:, -1, :]
        sorted_logits, sorted_indices = torch.sort(logits, descending=True)
        cumulative = torch.cumsum(sorted_logits.softmax(dim=-1), dim=-1)
        remove = cumulative > top_p
        remove[..., 1:] = remove[..., :-1].clone()
        remove[..., 0] = False
        logits[:, sorted_indices[remove]] = -float("inf")
        next_token = torch.argmax(logits, -1).unsqueeze(0)
        generated = torch.cat((generated, gpt.transformer.wte(next_token)), dim=1)
        tokens.append(int(next_token))
        if tokens[-1] == stop_token_index:
            break
    return tokens


def gap(values: Tensor, kept: int) -> float:
    """By how much the last kept value beats the first dropped one."""
    top = values.topk(kept + 1).values
    return float(top[-2] - top[-1])
