"""GPT-2 for decoding: the weights of a `GPT2LMHeadModel`, run with a cache that is written once and never moved.

Beams branch. A cache with one row per beam must be copied at every token, to follow the beams kept, and that copy is most of
what decoding costs besides matrix products. Here a voxel's beams share one row: its prefix once, then one slot for every token
that any of its beams has read. A beam sees the slots of its own past through a mask, which is a byte per slot to reorder, and
what it does not see has weight exactly 0.

    V voxels   M sentences per voxel   R rows computed   P prefix vectors   E width   H heads   d width of a head   S slots
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

if TYPE_CHECKING:
    from transformers import GPT2Config, GPT2LMHeadModel

ROOM = 16
"""Tokens per sentence by which the cache grows; most captions are shorter, so that it grows once."""


def decoding_bytes(
    *, layers: int, width: int, vocabulary: int, prefix_length: int, sentences: int, max_tokens: int, element: int
) -> int:
    """Return the bytes that decoding needs per voxel at most, besides the weights and the few MiB that libraries take once.

        cache    2 * (layers + 1) * width * S * element     S = P + M * T slots; one layer is there twice while it grows
        logits   2 * M * vocabulary * 4
        rows     max(P, M) * 20 * width * 4
        masks    M * S * 16

    T is `max_tokens` - 1, up to the next multiple of 16; as long as no sentence is longer than 17 tokens the cache is that of
    T = 16. `element` is the bytes of a number in the cache: 4 in float32, 2 in half precision.
    """
    slots = prefix_length + sentences * ROOM * -(-(max_tokens - 1) // ROOM)
    cache = 2 * (layers + 1) * width * slots * element
    logits = 2 * sentences * vocabulary * 4
    rows = max(prefix_length, sentences) * 20 * width * 4
    return cache + logits + rows + sentences * slots * 16


class CachedGPT2:
    """GPT-2 behind `core.decoding.TokenModel`. One search at a time; the memory of its cache is kept for the next.

    Parameters
    ----------
    gpt
        The model. Its weights are shared, not copied, where they have the right type already.
    dtype
        Of the matrix products and the cache; None keeps the model's own. In half precision the residual stream, the norms and
        the logits stay float32: logits of GPT-2 lie around -50, where bfloat16 counts in quarters.
    """

    def __init__(self, gpt: GPT2LMHeadModel, dtype: torch.dtype | None = None) -> None:
        body: Any = gpt.transformer
        config = gpt.config
        self._token_NE, self._position_TE = body.wte.weight.detach(), body.wpe.weight.detach()
        dtype = dtype or self._token_NE.dtype
        self._layers = [_Layer.of(block, config, number, dtype) for number, block in enumerate(body.h)]
        self._last = _Norm.of(body.ln_f)
        head_NE = gpt.lm_head.weight.detach()
        # A product of halves with a float32 result exists on CUDA alone; elsewhere this one product is float32.
        self._head_NE = head_NE.to(dtype) if head_NE.is_cuda else head_NE
        self._logits_RN = head_NE.new_empty(0, len(head_NE))
        shape = (2, 0, config.n_head, 0, config.n_embd // config.n_head)
        self._store_2VHSd = [head_NE.new_empty(shape, dtype=dtype) for _ in self._layers]
        self._voxels = self._slots = self._read = 0
        self._seen_VMS: Tensor | None = None

    def prefill(self, prefix_VPE: Tensor) -> Tensor:
        """Read V prefixes; return logits (V, N)."""
        self._voxels, self._read, width = prefix_VPE.shape
        self._slots, self._seen_VMS = 0, None
        self._reserve(self._read)
        hidden_RE = (prefix_VPE + self._position_TE[: self._read]).reshape(-1, width)
        hidden_RE = self._through(hidden_RE, self._read, mask=None, place_R=None)
        return self._logits(hidden_RE.view(self._voxels, self._read, width)[:, -1])

    def advance(self, source_VM: Tensor, token_VM: Tensor, alive_VM: Tensor) -> Tensor:
        """Read one token per sentence that is alive; return logits (R, N)."""
        sentences = alive_VM.shape[1]
        if self._slots + sentences > self._store_2VHSd[0].shape[3]:
            self._reserve(self._slots + sentences * ROOM)
        place_R = alive_VM.flatten().nonzero().squeeze(1)
        token_R = token_VM.flatten()[place_R]
        hidden_RE = self._token_NE[token_R] + self._position_TE[self._read]
        self._read += 1
        ragged = place_R if len(place_R) < alive_VM.numel() else None
        return self._logits(self._through(hidden_RE, sentences, mask=self._mask(source_VM), place_R=ragged))

    def keep(self, chosen_V: Tensor) -> None:
        """Move the chosen voxels to the front of the cache."""
        place_V = chosen_V.nonzero().squeeze(1)
        for store in self._store_2VHSd:
            store[:, : len(place_V), :, : self._slots] = store[:, place_V, :, : self._slots]
        self._voxels = len(place_V)
        if self._seen_VMS is not None:
            self._seen_VMS = self._seen_VMS[place_V]

    def _through(self, hidden_RE: Tensor, new: int, *, mask: Tensor | None, place_R: Tensor | None) -> Tensor:
        """All layers, of `new` positions per voxel (at `place_R` among all of them, if not all are computed)."""
        places, width = self._voxels * new, hidden_RE.shape[1]
        held = slice(self._slots, self._slots + new)
        self._slots = held.stop
        for layer, store in zip(self._layers, self._store_2VHSd, strict=True):
            qkv_RF = layer.qkv(layer.before(hidden_RE))
            if place_R is not None:
                # Slots of the others are zeros, not whatever was there: weight 0 times infinity would not be 0.
                qkv_RF = qkv_RF.new_zeros(places, 3 * width).index_copy_(0, place_R, qkv_RF)
            query, key, value = qkv_RF.view(self._voxels, new, 3, store.shape[2], -1).permute(2, 0, 3, 1, 4)
            past_2VHSd = store[:, : self._voxels, :, : held.stop]
            past_2VHSd[0, :, :, held], past_2VHSd[1, :, :, held] = key, value
            seen_VHQd = scaled_dot_product_attention(
                query, past_2VHSd[0], past_2VHSd[1], attn_mask=mask, is_causal=mask is None, scale=layer.scale
            )
            seen_RE = seen_VHQd.transpose(1, 2).reshape(places, width)
            hidden_RE += layer.out(seen_RE if place_R is None else seen_RE[place_R])
            hidden_RE += layer.narrow(layer.act(layer.widen(layer.between(hidden_RE))))
        return hidden_RE

    def _mask(self, source_VM: Tensor) -> Tensor:
        """What each sentence sees, added to its scores: its former sentence's past, and the slot of its own new token."""
        voxels, sentences = source_VM.shape
        if self._seen_VMS is None:
            past_VMS = source_VM.new_ones(voxels, sentences, self._slots, dtype=torch.bool)
        else:
            past_VMS = self._seen_VMS.gather(1, source_VM[:, :, None].expand(-1, -1, self._slots))
        own_VMM = torch.eye(sentences, dtype=torch.bool, device=source_VM.device).expand(voxels, -1, -1)
        self._seen_VMS = torch.cat([past_VMS, own_VMM], dim=2)
        mask_VMS = torch.zeros(self._seen_VMS.shape, dtype=self._store_2VHSd[0].dtype, device=source_VM.device)
        return mask_VMS.masked_fill_(~self._seen_VMS, -torch.inf)[:, None]

    def _reserve(self, slots: int) -> None:
        """Make room for this search's voxels with so many slots each; what is written stays."""
        for number, store in enumerate(self._store_2VHSd):
            shape = (2, max(store.shape[1], self._voxels), store.shape[2], max(store.shape[3], slots), store.shape[4])
            if shape != store.shape:
                wider = self._store_2VHSd[number] = store.new_empty(shape)
                written = store[:, : self._voxels, :, : self._slots]
                wider[:, : written.shape[1], :, : self._slots] = written

    def _logits(self, hidden_RE: Tensor) -> Tensor:
        last_RE = self._last(hidden_RE)
        if last_RE.dtype != self._head_NE.dtype:
            return torch.mm(last_RE.to(self._head_NE.dtype), self._head_NE.T, out_dtype=last_RE.dtype)
        if len(last_RE) > len(self._logits_RN):
            self._logits_RN = last_RE.new_empty(len(last_RE), len(self._head_NE))
        return torch.mm(last_RE, self._head_NE.T, out=self._logits_RN[: len(last_RE)])


@dataclass(frozen=True)
class _Norm:
    """A layer norm, in the precision of the residual stream."""

    weight_E: Tensor
    bias_E: Tensor
    epsilon: float

    @classmethod
    def of(cls, norm: Any) -> _Norm:
        return cls(norm.weight.detach(), norm.bias.detach(), norm.eps)

    def __call__(self, value_RE: Tensor) -> Tensor:
        return layer_norm(value_RE, self.weight_E.shape, self.weight_E, self.bias_E, self.epsilon)


@dataclass(frozen=True)
class _Affine:
    """What transformers calls Conv1D, in the precision of the products."""

    weight_EF: Tensor
    bias_F: Tensor

    @classmethod
    def of(cls, layer: Any, dtype: torch.dtype) -> _Affine:
        return cls(layer.weight.detach().to(dtype), layer.bias.detach().to(dtype))

    def __call__(self, value_RE: Tensor) -> Tensor:
        return torch.addmm(self.bias_F, value_RE.to(self.weight_EF.dtype), self.weight_EF)


@dataclass(frozen=True)
class _Layer:
    """One block."""

    before: _Norm
    qkv: _Affine
    scale: float
    out: _Affine
    between: _Norm
    widen: _Affine
    act: nn.Module
    narrow: _Affine

    @classmethod
    def of(cls, block: Any, config: GPT2Config, number: int, dtype: torch.dtype) -> _Layer:
        scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        # transformers spells this GELU out in five operations; torch has a single one of the same formula.
        act = nn.GELU(approximate="tanh") if config.activation_function == "gelu_new" else block.mlp.act
        return cls(
            before=_Norm.of(block.ln_1),
            qkv=_Affine.of(block.attn.c_attn, dtype),
            scale=scale / (number + 1) if config.scale_attn_by_inverse_layer_idx else scale,
            out=_Affine.of(block.attn.c_proj, dtype),
            between=_Norm.of(block.ln_2),
            widen=_Affine.of(block.mlp.c_fc, dtype),
            act=act,
            narrow=_Affine.of(block.mlp.c_proj, dtype),
        )
