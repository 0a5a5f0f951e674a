"""Trains a CLIPCap-style captioner for any backbone: raw embedding in, the caption's tokens out, prefix MLP and GPT-2 together.

The loss is the cross entropy of the caption's tokens and the stop token after the prefix (CLIPCap, section 3). On a GPU the
passes run in bf16 under autocast with float32 weights. Training resumes from its last checkpoint; on a CPU bit for bit.
Needs torch, transformers, tokenizers and safetensors only, so it runs on a bare GPU machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.caption_text import PAD, caption_tokens
from scuba_ray.models.captioner_checkpoints import drop_checkpoints, load_checkpoint, save_checkpoint
from scuba_ray.models.captioner_directory import CaptionerAbout, read_about, write_captioner
from scuba_ray.models.prefix_model import PrefixModel

Batches = Callable[[int], Iterable[tuple[Tensor, Sequence[str] | Tensor]]]
"""Called with the step to begin at (0, or the one resumed from): a batch per step from there on. A batch is raw embeddings (B, D)
on any device and their captions, or ids from `caption_tokens`. The same step must give the same batch in every run."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a captioner is trained with; kept in `captioner.json`."""

    # length of the embeddings, fingerprint and name of the backbone they come from
    dim: int
    trained_for: str
    backbone: str
    # optimiser steps, one batch each
    steps: int
    # vectors the language model is started with, and width of the MLP (none: half of what it puts out, as published)
    prefix_length: int = 10
    hidden: int | None = None
    # longest caption learned, tokens with the stop token
    max_tokens: int = 24
    # AdamW: peak rate, steps up to it (a cosine leads down to 0), decay of matrices; larger decay shrinks more
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    # largest norm of a step's gradient
    clip: float = 1.0
    # a sentence ends here
    stop: str = "."
    seed: int = 0
    # what the batches are made of, in the caller's words: a training with other data does not go on with this one's checkpoints
    data: str = ""


def small_gpt2(tokenizer: Any, *, n_embd: int = 192, n_layer: int = 4, n_head: int = 6, dropout: float = 0.0) -> GPT2Config:
    """Return the configuration of a fresh small GPT-2 over `tokenizer`, long enough for 32 prefix vectors and 67 tokens."""
    end = tokenizer.eos_token_id
    return GPT2Config(
        vocab_size=len(tokenizer), n_positions=99, n_embd=n_embd, n_layer=n_layer, n_head=n_head,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=end, eos_token_id=end,
    )  # fmt: skip


def train_captioner(
    batches: Batches,
    settings: TrainingSettings,
    *,
    tokenizer: Any,
    language_model: GPT2Config | Path,
    out: Path,
    device: str = "cpu",
    checkpoint_every: int = 1000,
    resume: bool = True,
    report: Callable[[int, float], None] | None = None,
    report_every: int = 100,
) -> Path:
    """Train a captioner, write its directory and return it.

    Parameters
    ----------
    batches, settings
        Where the pairs come from (see `Batches`) and what to train.
    tokenizer
        A fast tokenizer (`train_caption_tokenizer`, `load_tokenizer`); goes into the directory.
    language_model
        A configuration starts a fresh GPT-2 (`small_gpt2`), a GPT-2 directory is fine-tuned.
    out
        The captioner directory; checkpoints lie in it until training has ended.
    device, checkpoint_every
        Where to train (`cuda` computes in bf16); steps between checkpoints.
    resume
        Go on from the last checkpoint in `out`, if there is one; a finished captioner of the same settings is returned as it is.
    report, report_every
        Called with the step and the mean loss (nats per token) since the last call.

    Raises
    ------
    ConfigError
        If `out` holds a captioner or checkpoint of other settings, or the language model is too short for the captions.
    DataError
        If the batches end early, do not have length D, or the loss is not finite.
    """
    if resume and finished(out, settings):
        return out
    torch.manual_seed(settings.seed)
    model = _new_model(settings, language_model).to(device).train()
    optimizer = _optimizer(model, settings)
    first = load_checkpoint(out, model, optimizer, asdict(settings)) if resume else 0
    progress = _Progress(report or (lambda step, loss: None), report_every, settings)
    for step, (embedding_BD, captions) in enumerate(_exactly(batches(first), settings.steps - first, settings.dim), first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        token_BL = captions if isinstance(captions, Tensor) else _tokens(tokenizer, captions, settings)
        batch = embedding_BD.to(device), token_BL.to(device, non_blocking=True)
        progress.add(step + 1, _train_step(model, optimizer, *batch, settings.clip))
        if (step + 1) % checkpoint_every == 0 and step + 1 < settings.steps:
            save_checkpoint(out, step + 1, model, optimizer, asdict(settings))
    write_captioner(out, model, tokenizer, _about(model, settings))
    drop_checkpoints(out)
    return out


class _Progress:
    """Adds up losses on their device, and looks at them (which waits for the device) every so many steps only."""

    def __init__(self, report: Callable[[int, float], None], every: int, settings: TrainingSettings) -> None:
        self._report, self._every, self._settings = report, every, settings
        self._losses: list[Tensor] = []

    def add(self, done: int, loss: Tensor) -> None:
        self._losses.append(loss)
        if done % self._every and done != self._settings.steps:
            return
        mean = float(torch.stack(self._losses).mean())
        if not math.isfinite(mean):
            rate = self._settings.learning_rate
            raise DataError(f"captioner training: the loss is {mean} at step {done}; lower learning_rate ({rate})")
        self._report(done, mean)
        self._losses.clear()


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the rate of a step (0-based): linear up over `warmup` steps, then half a cosine down to 0."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _train_step(
    model: PrefixModel, optimizer: torch.optim.Optimizer, embedding_BD: Tensor, token_BL: Tensor, clip: float
) -> Tensor:
    """One optimiser step; return the loss without waiting for it."""
    with torch.autocast(embedding_BD.device.type, torch.bfloat16, enabled=embedding_BD.is_cuda):
        logits_BLN = model(embedding_BD.float(), token_BL.clamp_min(0))
    loss = cross_entropy(logits_BLN.flatten(0, 1).float(), token_BL.flatten(), ignore_index=PAD)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.detach()


def _new_model(settings: TrainingSettings, language_model: GPT2Config | Path) -> PrefixModel:
    """Build the network, its language model fresh or from a directory."""
    base = language_model if isinstance(language_model, Path) else None
    config: Any = GPT2Config.from_pretrained(base) if base else language_model
    if config.n_positions < settings.prefix_length + settings.max_tokens:
        raise ConfigError(
            f"the language model reads {config.n_positions} positions, prefix_length + max_tokens is "
            f"{settings.prefix_length} + {settings.max_tokens}; shorten one"
        )
    model = PrefixModel(settings.dim, settings.prefix_length, config, settings.hidden)
    if base:
        model.gpt = GPT2LMHeadModel.from_pretrained(base, dtype=torch.float32)
    return model


def _optimizer(model: PrefixModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW; gains and biases are not decayed."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=matrices[0].is_cuda)


def _tokens(tokenizer: Any, captions: Sequence[str], settings: TrainingSettings) -> Tensor:
    return caption_tokens(tokenizer, captions, max_tokens=settings.max_tokens, stop=settings.stop)


def _exactly(
    batches: Iterable[tuple[Tensor, Sequence[str] | Tensor]], count: int, dim: int
) -> Iterator[tuple[Tensor, Sequence[str] | Tensor]]:
    """Pass on `count` batches of embeddings of length `dim`."""
    given = iter(batches)
    for number in range(count):
        batch = next(given, None)
        if batch is None:
            raise DataError(f"captioner training: the batches ended after {number} of {count} steps")
        if batch[0].ndim != 2 or batch[0].shape[1] != dim or len(batch[0]) != len(batch[1]):
            got = f"{tuple(batch[0].shape)} and {len(batch[1])}"
            raise DataError(f"captioner training: want embeddings (B, {dim}) and as many captions, got {got}")
        yield batch


def _about(model: PrefixModel, settings: TrainingSettings) -> CaptionerAbout:
    return CaptionerAbout(
        trained_for=settings.trained_for, backbone=settings.backbone, dim=settings.dim,
        prefix_length=settings.prefix_length, hidden=model.hidden, training=asdict(settings),
    )  # fmt: skip


def finished(out: Path, settings: TrainingSettings) -> bool:
    """Whether `out` is what these settings make. Raises ConfigError if it is what others made."""
    if not (out / "captioner.json").is_file():
        return False
    if TrainingSettings(**read_about(out).training) != settings:
        raise ConfigError(f"{out} holds a captioner trained with other settings; choose another --out, or remove it")
    return True
