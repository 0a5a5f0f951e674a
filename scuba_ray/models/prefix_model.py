"""The network of a CLIPCap-style captioner: an MLP turns an embedding into a prefix of vectors that GPT-2 continues.

Layer names are those of the published checkpoints (`clip_project.model.{0,2}`, `gpt`), so their weights load as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import GPT2Config, GPT2LMHeadModel


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


def fuse_gelu(gpt: GPT2LMHeadModel) -> None:
    """Replace GPT-2's GELU, which transformers spells out in five operations, by torch's single one of the same formula.

    Equal to rounding; captions take 12 % less time on a CPU.
    """
    if gpt.config.activation_function == "gelu_new":
        for block in gpt.transformer.h:
            block.mlp.act = nn.GELU(approximate="tanh")


class CachedGPT2:
    """GPT-2 behind `core.beam.Step`: a DynamicCache with one row per live beam. One object per search."""

    def __init__(self, gpt: GPT2LMHeadModel) -> None:
        self._gpt = gpt
        from transformers import DynamicCache

        self._cache = DynamicCache(config=gpt.config)

    def prefill(self, prefix_VPE: Tensor) -> Tensor:
        """Run the prefixes through the model; return float32 (or float64) logits (V, N)."""
        return self._logits(inputs_embeds=prefix_VPE)

    def advance(self, source_R: Tensor, token_R: Tensor) -> Tensor:
        """Reorder the cache to `source_R`, feed one token per row; return logits (R, N)."""
        self._cache.batch_select_indices(source_R)
        return self._logits(input_ids=token_R[:, None])

    def _logits(self, **inputs: Tensor) -> Tensor:
        made = self._gpt(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits_RN: Tensor = made.logits[:, -1]
        return logits_RN if logits_RN.dtype == torch.float64 else logits_RN.float()
