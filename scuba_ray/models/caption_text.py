"""Captions as token ids: the stop token they end with, and a small tokenizer of one's own.

The published decoding rule ends a sentence at its first full stop, so a caption to learn from holds exactly one, at its end.
That is seen to here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from scuba_ray.errors import ConfigError

PAD = -100
"""Fills a caption's row of ids after its stop token: torch's cross entropy leaves it out."""
_END = "<|endoftext|>"


def train_caption_tokenizer(captions: Iterable[str], vocab: int) -> Any:
    """Train a byte-level BPE of GPT-2's kind on captions; every text can be written with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((ended(caption, ".") for caption in captions), trainer)
    return _fast(tokenizer)


def load_tokenizer(directory: Path) -> Any:
    """Read the fast tokenizer of a GPT-2 directory (`tokenizer.json`, or `vocab.json` and `merges.txt`).

    Raises
    ------
    ConfigError
        If there is none.
    """
    if (directory / "tokenizer.json").is_file():
        return _fast(Tokenizer.from_file(str(directory / "tokenizer.json")))
    vocab, merges = directory / "vocab.json", directory / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        raise ConfigError(f"{directory} holds no tokenizer: want tokenizer.json, or vocab.json and merges.txt")
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _fast(tokenizer)


def _fast(tokenizer: Tokenizer) -> Any:
    """Wrap a byte-level BPE for transformers; GPT-2's one special token serves every purpose."""
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), _END) if tokenizer.token_to_id(_END) is not None else {}
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **ends)


def stop_token(tokenizer: Any, stop: str) -> int:
    """Return the id a sentence ends at. Raises ConfigError unless `stop` is a single token of the tokenizer."""
    ids = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1:
        raise ConfigError(f"caption.stop must be one token of the captioner's tokenizer, {stop!r} is {len(ids)}; '.' is usual")
    return int(ids[0])


def ended(caption: str, stop: str) -> str:
    """Return the caption without surrounding space and with the stop word right after its last word."""
    return caption.strip().rstrip(stop).rstrip() + stop


def caption_tokens(tokenizer: Any, captions: Sequence[str], *, max_tokens: int, stop: str = ".") -> Tensor:
    """Return ids (B, max_tokens), int64: each caption, its stop token, then PAD. Longer captions are cut before the stop.

    A stop token inside a caption ("St. Bernard") is dropped: decoding would end there.
    """
    end = stop_token(tokenizer, stop)
    rows = tokenizer([ended(caption, stop) for caption in captions], add_special_tokens=False)["input_ids"]
    token_BL = torch.full((len(rows), max_tokens), PAD)
    for row, ids in enumerate(rows):
        words = [token for token in ids if token != end][: max_tokens - 1]
        token_BL[row, : len(words) + 1] = torch.tensor([*words, end])
    return token_BL
