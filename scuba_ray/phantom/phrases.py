"""Captions as people write them, composed as token ids on the training device.

A drawing is called by its name, by one of its published keywords, or by its kind ("food", "a mammal" in plain words); a scene's
caption joins what its drawings are called. Names alone would teach single drawings, not kinds. The tokenizer is a small
byte-level BPE (GPT-2's format) in which a phrase's tokens do not depend on its neighbours, so captions are put together from
ready-made phrases without touching strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from scuba_ray.models.clip_export import END, PAD, START, train_text_tokenizer
from scuba_ray.phantom.scenes import Drawings

VOCABULARY = 2048
OPENINGS = ("a photo of", "a picture of", "an image of")


def train_tokenizer(drawings: Drawings) -> Tokenizer:
    """A byte-level BPE of `VOCABULARY` entries over what the drawings are called. Deterministic."""
    corpus = list(drawings.names) * 2 + [word for words in drawings.keywords for word in words]
    corpus += [kind for kinds in drawings.kinds for kind in kinds] + [*OPENINGS, "and", "."] * 50
    return train_text_tokenizer(corpus, VOCABULARY)


@dataclass(frozen=True)
class PhraseTable:
    """Token ids of every phrase, padded with -1, and for each drawing where its phrases lie."""

    tokens_PL: torch.Tensor
    name_N: torch.Tensor
    keyword_start_N: torch.Tensor
    keyword_count_N: torch.Tensor
    kind_start_N: torch.Tensor
    kind_count_N: torch.Tensor
    opening_rows: torch.Tensor
    and_row: int
    nothing_row: int


def phrase_table(drawings: Drawings, tokenizer: Tokenizer, device: str) -> PhraseTable:
    """Tokenise every phrase once."""
    phrases: list[str] = list(drawings.names)
    starts: list[list[int]] = []
    for groups in (drawings.keywords, drawings.kinds):
        rows = []
        for words in groups:
            rows.append(len(phrases))
            phrases.extend(words)
        starts.append(rows)
    first_opening = len(phrases)
    phrases += [*OPENINGS, "and", ""]
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(phrases, add_special_tokens=False)]
    encoded[-1] = []
    tokens = torch.full((len(phrases), max(map(len, encoded))), -1, dtype=torch.long)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)

    def put(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, device=device)

    return PhraseTable(
        tokens_PL=tokens.to(device),
        name_N=put(range(len(drawings))),
        keyword_start_N=put(starts[0]),
        keyword_count_N=put([len(words) for words in drawings.keywords]),
        kind_start_N=put(starts[1]),
        kind_count_N=put([len(words) for words in drawings.kinds]),
        opening_rows=put(range(first_opening, first_opening + len(OPENINGS))),
        and_row=first_opening + len(OPENINGS),
        nothing_row=len(phrases) - 1,
    )


def mixed_captions(
    generator: torch.Generator,
    order_BO: torch.Tensor,
    table: PhraseTable,
    *,
    keywords: float = 0.2,
    kinds: float = 0.3,
    openings: float = 0.2,
) -> torch.Tensor:
    """Captions of scenes as token ids (B, L), -1 after their end, without start, stop or padding ids.

    `order_BO` holds the drawings in the order they are named (-1 none). Each is called by a keyword with probability `keywords`,
    by a kind with probability `kinds`, else by its name; a caption opens with "a photo of" or so with probability `openings`.
    """
    device = order_BO.device
    index = order_BO.clamp(min=0)

    def pick(start_N: torch.Tensor, count_N: torch.Tensor) -> torch.Tensor:
        count = count_N[index]
        offset = (torch.rand(index.shape, generator=generator, device=device) * count).long()
        return torch.where(count > 0, start_N[index] + offset, table.name_N[index])

    draw = torch.rand(index.shape, generator=generator, device=device)
    rows = table.name_N[index]
    rows = torch.where(draw < keywords + kinds, pick(table.kind_start_N, table.kind_count_N), rows)
    rows = torch.where(draw < keywords, pick(table.keyword_start_N, table.keyword_count_N), rows)
    rows = torch.where(order_BO >= 0, rows, table.nothing_row)
    joins = torch.where(order_BO[:, 1:] >= 0, table.and_row, table.nothing_row)
    chosen = torch.randint(len(table.opening_rows), (len(index),), generator=generator, device=device)
    opened = torch.rand(len(index), generator=generator, device=device) < openings
    opening = torch.where(opened, table.opening_rows[chosen], table.nothing_row)
    parts = [opening, rows[:, 0], joins[:, 0], rows[:, 1], joins[:, 1], rows[:, 2]]
    return compact(torch.cat([table.tokens_PL[part] for part in parts], dim=1))


def compact(tokens_BL: torch.Tensor) -> torch.Tensor:
    """Close the gaps: move every -1 behind the tokens of its row and cut columns that hold nothing."""
    order = (tokens_BL < 0).to(torch.int8).argsort(dim=1, stable=True)
    tokens_BL = tokens_BL.gather(1, order)
    return tokens_BL[:, : int((tokens_BL >= 0).sum(1).max())]


def clip_ids(tokens_BL: torch.Tensor, tokenizer: Tokenizer, length: int) -> torch.Tensor:
    """Wrap captions between the text tower's start and end tokens, padded (or cut) to `length`."""
    start, stop, pad = (int(tokenizer.token_to_id(token) or 0) for token in (START, END, PAD))
    body = tokens_BL[:, : length - 2]
    ids = torch.full((len(body), length), -1, dtype=torch.long, device=body.device)
    ids[:, 0] = start
    ids[:, 1 : 1 + body.shape[1]] = body
    ends = (ids >= 0).sum(1)
    ids[torch.arange(len(ids), device=ids.device), ends] = stop
    return torch.where(ids >= 0, ids, pad)
