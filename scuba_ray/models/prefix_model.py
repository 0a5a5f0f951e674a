"""The network of a CLIPCap-style captioner: an MLP turns an embedding into a prefix of vectors that GPT-2 continues.

Layer names are those of the published checkpoints (`clip_project.model.{0,2}`, `gpt`), so their weights load as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import GPT2Config


class _Project(nn.Module):
    """Linear, tanh, Linear: CLIPCap's MLP mapping network."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, out))


class PrefixModel(nn.Module):
    """Prefix MLP and language model.

    Parameters
    ----------
    dim
        Length of the embeddings read.
    prefix_length
        Vectors the language model is started with.
    config
        Of the language model.
    hidden
        Width of the MLP; the published one is half of what it puts out.
    """

    def __init__(self, dim: int, prefix_length: int, config: GPT2Config, hidden: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.prefix_length = prefix_length
        out = prefix_length * config.n_embd
        self.hidden = out // 2 if hidden is None else hidden
        self.clip_project = _Project(dim, self.hidden, out)
        from transformers import GPT2LMHeadModel  # takes seconds, and most who read this module build no network

        self.gpt = GPT2LMHeadModel(config)

    def prefix(self, embedding_BD: Tensor) -> Tensor:
        """Return the prefix vectors (B, P, E) of raw embeddings."""
        flat_BE: Tensor = self.clip_project.model(embedding_BD)
        return flat_BE.view(len(embedding_BD), self.prefix_length, -1)

    def forward(self, embedding_BD: Tensor, token_BL: Tensor) -> Tensor:
        """Return logits (B, L, N): what each caption token is predicted to be from the prefix and the tokens before it."""
        known_BLE = self.gpt.transformer.wte(token_BL[:, :-1])
        input_BTE = torch.cat([self.prefix(embedding_BD), known_BLE], dim=1)
        hidden_BTE = self.gpt.transformer(inputs_embeds=input_BTE).last_hidden_state
        logits_BLN: Tensor = self.gpt.lm_head(hidden_BTE[:, self.prefix_length - 1 :])
        return logits_BLN
