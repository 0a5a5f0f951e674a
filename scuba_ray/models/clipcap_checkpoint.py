"""The published CLIPCap checkpoint: a torch state dict with `clip_project.model.{0,2}.*` and `gpt.*`, shapes and all.

Old checkpoints carry GPT-2's attention masks as buffers (`attn.bias`, `attn.masked_bias`); transformers has dropped them since.
The file holds no tokenizer and no configuration: both come from a local GPT-2 directory.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scuba_ray.errors import ConfigError
from scuba_ray.models.prefix_model import PrefixModel

_FIRST, _LAST, _WORDS = "clip_project.model.0.weight", "clip_project.model.2.weight", "gpt.transformer.wte.weight"
_OLD_BUFFERS = (".attn.bias", ".attn.masked_bias")


@dataclass(frozen=True)
class PublishedShapes:
    """What the shapes of a checkpoint's weights say."""

    dim: int
    hidden: int
    prefix_length: int
    n_embd: int
    vocab: int


def published_shapes(path: Path) -> PublishedShapes:
    """Infer a checkpoint's dimensions, without reading its weights into memory. Raises ConfigError if it is of another layout."""
    state = _read(path)
    missing = [name for name in (_FIRST, _LAST, _WORDS) if name not in state]
    if missing:
        hint = "; this one has a transformer mapping network" if any("clip_project.transformer" in name for name in state) else ""
        raise ConfigError(f"clipcap:{path}: want CLIPCap's MLP layout, {', '.join(missing)} is missing{hint}")
    hidden, dim = state[_FIRST].shape
    vocab, n_embd = state[_WORDS].shape
    return PublishedShapes(dim, hidden, state[_LAST].shape[0] // n_embd, n_embd, vocab)


def read_published(path: Path, language_model: Path) -> PrefixModel:
    """Load a published checkpoint with the configuration in `language_model`, in float32, on the CPU.

    Raises
    ------
    ConfigError
        If the weights do not fit that GPT-2.
    """
    shapes = published_shapes(path)
    from transformers import GPT2Config

    config: Any = GPT2Config.from_pretrained(language_model)
    if (config.n_embd, config.vocab_size) != (shapes.n_embd, shapes.vocab):
        raise ConfigError(
            f"clipcap:{path} holds a GPT-2 of width {shapes.n_embd} and {shapes.vocab} tokens, caption.language_model "
            f"{language_model} one of {config.n_embd} and {config.vocab_size}; give the GPT-2 the checkpoint was tuned from"
        )
    model = PrefixModel(shapes.dim, shapes.prefix_length, config, shapes.hidden)
    state = {name: tensor.float() for name, tensor in _read(path).items() if not name.endswith(_OLD_BUFFERS)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"clipcap:{path} does not fit the GPT-2 in {language_model}: {error}") from error
    return model


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict, memory-mapped where its format allows."""
    if not path.is_file():
        raise ConfigError(f"clipcap:{path}: no such file; it should be a CLIPCap checkpoint (coco_weights.pt)")
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written before torch 1.6: cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ConfigError(f"clipcap:{path} is not a torch state dict that can be read safely: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"clipcap:{path}: want a state dict (name to tensor), got {type(state).__name__}")
    return state
