"""Random models written to disk in the layouts the published ones have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from scuba_ray.models.caption_text import train_caption_tokenizer

STORIES = ["a man riding a wave on a surfboard.", "two dogs on a red couch.", "a plate of food on a table."]


def write_gpt2(out: Path, vocab: int = 300, **sizes: Any) -> GPT2Config:
    """A GPT-2 directory as the hub had it in 2021: config.json, vocab.json, merges.txt; no weights, no tokenizer.json."""
    out.mkdir(parents=True)
    tokenizer = train_caption_tokenizer(STORIES * 3, vocab)
    tokenizer.backend_tokenizer.model.save(str(out))
    settings = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96, **sizes}
    config = GPT2Config(**settings)
    config.save_pretrained(out)
    return config


def write_clipcap(path: Path, config: GPT2Config, dim: int, prefix_length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """A CLIPCap checkpoint: MLP, GPT-2 and the mask buffers that transformers kept in its state at the time."""
    torch.manual_seed(seed)
    out = prefix_length * config.n_embd
    layers = {"0": torch.nn.Linear(dim, out // 2), "2": torch.nn.Linear(out // 2, out)}
    state = {
        f"clip_project.model.{number}.{name}": tensor
        for number, layer in layers.items()
        for name, tensor in layer.state_dict().items()
    }
    state |= {f"gpt.{name}": tensor for name, tensor in GPT2LMHeadModel(config).state_dict().items()}
    for layer in range(config.n_layer):
        state[f"gpt.transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, config.n_positions, config.n_positions).tril().byte()
        state[f"gpt.transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, path)
    return state


def token_of(gpt2: Path, word: str) -> int:
    return int(json.loads((gpt2 / "vocab.json").read_text())[word])
