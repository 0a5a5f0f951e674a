"""`scuba captioner train`: a captioner for any backbone from a file of pairs (`pair_files.py`).

Pictures are encoded once and kept until training has ended, so that an interrupted training goes on where it was. A share of
the pictures is held out to score the result; all captions of a picture fall on the same side.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.caption_text import caption_tokens, load_tokenizer, train_caption_tokenizer
from scuba_ray.models.captioner_directory import write_model_card
from scuba_ray.models.captioner_scores import score_captioner
from scuba_ray.models.captioner_training import Batches, TrainingSettings, finished, small_gpt2, train_captioner
from scuba_ray.models.files import digest_files
from scuba_ray.models.pair_embeddings import Decode, embeddings_of
from scuba_ray.models.pair_files import Pairs, read_pairs
from scuba_ray.protocols import Backbone

_SCORED = 2000
"""Held-out pictures that are captioned for the score, at most."""


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """How a captioner is trained on pairs."""

    # optimiser steps, and pairs in each
    steps: int = 5000
    batch: int = 256
    # vectors the language model is started with; longest caption learned, tokens
    prefix_length: int = 10
    max_tokens: int = 32
    # peak rate; none takes 1e-3 for a fresh language model and 1e-4 for one that is fine-tuned
    learning_rate: float | None = None
    # a fresh language model: size of its vocabulary, width (a multiple of 32) and layers
    vocab: int = 8000
    width: int = 256
    layers: int = 4
    # share of the pictures held out for the scores
    holdout: float = 0.05
    checkpoint_every: int = 1000
    seed: int = 0


def train_on_pairs(
    pairs: Path,
    backbone: Backbone,
    out: Path,
    *,
    decode: Decode,
    language_model: Path | None = None,
    device: str = "cpu",
    settings: PairSettings | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train a captioner for `backbone` on a file of pairs, score it on those held out, and return its directory.

    Parameters
    ----------
    pairs, backbone, out
        The file, the network (its weights are read only if there are pictures to encode) and the captioner directory.
    decode
        Bytes of a picture to RGB; raises DataError for those it cannot read, which are counted and left out.
    language_model
        A GPT-2 directory to fine-tune; none starts a small one with a vocabulary of its own.
    device, settings, report
        Where and how to train, and who is told what happens, a line at a time.

    Raises
    ------
    ConfigError, DataError
        If the file, its columns or its embeddings cannot be used, or no pair is left to learn from.
    """
    settings = settings or PairSettings()
    training = _training(pairs, backbone, language_model, settings)
    if finished(out, training) and (out / "README.md").is_file():
        return out
    given, work = read_pairs(pairs, backbone.dim), out / "work"
    embedding_ID, usable_I = embeddings_of(given, backbone, work, decode=decode, device=device, report=report)
    split = _split(given, usable_I, settings)
    counts = f"{len(split.train)} pairs to learn from, {len(split.test)} held out, {split.dropped} left out as unreadable"
    report(counts)
    tokenizer = load_tokenizer(language_model) if language_model else _own_tokenizer(given, split, work, settings)
    train_captioner(
        _batches(given, split, embedding_ID.to(device), tokenizer, settings),
        training,
        tokenizer=tokenizer,
        language_model=language_model or _own_gpt2(tokenizer, settings),
        out=out,
        device=device,
        checkpoint_every=settings.checkpoint_every,
        report=lambda step, loss: report(f"step {step} of {settings.steps}: loss {loss:.3f} nats per token"),
    )
    scores = score_captioner(out, *_held_out(given, split, embedding_ID), device) if split.test else {}
    write_model_card(out, title=f"Captioner for {backbone.name}", data=f"`{pairs.name}`: {counts}.", scores=scores)
    shutil.rmtree(work, ignore_errors=True)
    return out


def _training(pairs: Path, backbone: Backbone, language_model: Path | None, settings: PairSettings) -> TrainingSettings:
    """The trainer's settings, with a digest of the file and of everything else that decides what a step sees."""
    if not pairs.is_file():
        raise ConfigError(f"--pairs {pairs}: no such file")
    digest = digest_files([pairs])
    if language_model is not None:
        digest.update(digest_files(path for path in sorted(language_model.glob("*")) if path.is_file()).digest())
    digest.update(repr(settings).encode())
    return TrainingSettings(
        dim=backbone.dim,
        trained_for=backbone.fingerprint,
        backbone=backbone.name,
        steps=settings.steps,
        prefix_length=settings.prefix_length,
        max_tokens=settings.max_tokens,
        learning_rate=settings.learning_rate or (1e-4 if language_model else 1e-3),
        warmup=min(500, settings.steps // 10),
        seed=settings.seed,
        data=digest.hexdigest()[:16],
    )


@dataclass(frozen=True)
class _Split:
    """Rows of the file to learn from and to score with, and how many had unreadable pictures."""

    train: list[int]
    test: list[int]
    dropped: int


def _split(given: Pairs, usable_I: Tensor, settings: PairSettings) -> _Split:
    order_I = torch.randperm(len(usable_I), generator=torch.Generator().manual_seed(settings.seed))
    held_I = torch.zeros(len(usable_I), dtype=torch.bool)
    held_I[order_I[: int(settings.holdout * len(usable_I))]] = True
    item_N = torch.tensor(given.item)
    usable_N, held_N = usable_I[item_N], held_I[item_N]
    train = (usable_N & ~held_N).nonzero().flatten().tolist()
    dropped = int((~usable_N).sum())
    if not train:
        raise DataError(f"{given.name}: no pair is left to learn from; {dropped} of {len(item_N)} have unreadable pictures")
    return _Split(train, (usable_N & held_N).nonzero().flatten().tolist(), dropped)


def _held_out(given: Pairs, split: _Split, embedding_ID: Tensor) -> tuple[Tensor, Sequence[Sequence[str]]]:
    """Embeddings and references of held-out items."""
    references: dict[int, list[str]] = {}
    for row in split.test:
        references.setdefault(given.item[row], []).append(given.caption[row])
    items = list(references)[:_SCORED]
    return embedding_ID[items], [references[item] for item in items]


def _own_tokenizer(given: Pairs, split: _Split, work: Path, settings: PairSettings) -> Any:
    """Learn a vocabulary from the captions, once: a resumed training goes on with the same."""
    if not (work / "gpt2" / "tokenizer.json").is_file():
        captions = (given.caption[row] for row in split.train)
        train_caption_tokenizer(captions, settings.vocab).save_pretrained(work / "gpt2")
    return load_tokenizer(work / "gpt2")


def _own_gpt2(tokenizer: Any, settings: PairSettings) -> GPT2Config:
    return small_gpt2(tokenizer, n_embd=settings.width, n_layer=settings.layers, n_head=settings.width // 32, dropout=0.1)


def _batches(given: Pairs, split: _Split, embedding_ID: Tensor, tokenizer: Any, settings: PairSettings) -> Batches:
    """Shuffled epochs over the pairs; a step's batch depends on the seed and the step only."""
    device = embedding_ID.device
    captions = [given.caption[row] for row in split.train]
    token_NL = caption_tokens(tokenizer, captions, max_tokens=settings.max_tokens).to(device)
    item_N = torch.tensor([given.item[row] for row in split.train], device=device)
    size = min(settings.batch, len(captions))

    def batches(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        step, order_N, epoch = first, torch.empty(0), -1
        while True:
            now, place = divmod(step, len(captions) // size)
            if now != epoch:
                epoch, shuffle = now, torch.Generator().manual_seed(settings.seed * 1_000_003 + now)
                order_N = torch.randperm(len(captions), generator=shuffle).to(device)
            chosen_B = order_N[place * size : (place + 1) * size]
            yield embedding_ID[item_N[chosen_B]], token_NL[chosen_B]
            step += 1

    return batches
