"""Writes a backbone as a directory that open_clip itself loads (`local-dir:PATH`), offline and wherever the directory is moved.

What open_clip 3.3 needs there (`open_clip/factory.py`): `open_clip_config.json` with `model_cfg` and `preprocess_cfg`; the
weights as `open_clip_model.safetensors`; and, for a tokenizer other than CLIP's own, `text_cfg.hf_tokenizer_name` set to any
text (for `local-dir:` the directory's own files are read, never that name) with `tokenizer.json` and a `tokenizer_config.json`
that names its class. CLIP's text tower pools at the largest token id, so the end token must be the last of the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from scuba_ray.models.clip_directory import CONFIG_FILE

PAD, START, END = "<pad>", "<start_of_text>", "<end_of_text>"
_UNUSED = "the tokenizer lies in this directory"


def train_text_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Train a lower-casing byte-level BPE for a text tower: `<start>`, text, `<end>`; pad is id 0 and `<end>` the largest id."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab - 2, special_tokens=[PAD], initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(word, tokenizer.token_to_id(word)) for word in (START, END)]
    )
    return tokenizer


def write_open_clip_directory(
    out: Path,
    *,
    model_config: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    tokenizer: Tokenizer | None = None,
    preprocess: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a backbone so that `open_clip.create_model_and_transforms("local-dir:OUT")` and `get_tokenizer` load it.

    Parameters
    ----------
    out
        The directory, made if need be.
    model_config
        open_clip's `model_cfg`: embed_dim, vision_cfg, text_cfg, ... With `tokenizer`, its `vocab_size` and
        `hf_tokenizer_name` are filled in.
    state_dict
        The network's `state_dict()`.
    tokenizer
        A tokenizer whose end token has the largest id (`train_text_tokenizer`); none means CLIP's own.
    preprocess
        open_clip's `preprocess_cfg` (mean, std, interpolation, resize_mode); what is left out keeps open_clip's default.
    dtype
        Of the floating-point tensors on disk. open_clip reads them back as float32.

    Raises
    ------
    ValueError
        If the tokenizer's end token is not the largest id, or the text tower's vocabulary has another size.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = dict(model_config["text_cfg"])
    if tokenizer is not None:
        size = tokenizer.get_vocab_size()
        if tokenizer.token_to_id(END) != size - 1:
            raise ValueError(f"{END} must be the last of {size} tokens, got id {tokenizer.token_to_id(END)}")
        if text.setdefault("vocab_size", size) != size:
            raise ValueError(f"text_cfg.vocab_size is {text['vocab_size']}, the tokenizer has {size} tokens")
        text["hf_tokenizer_name"] = _UNUSED
        _write_tokenizer(out, tokenizer, int(text.get("context_length", 77)))
    settings = {"model_cfg": {**model_config, "text_cfg": text}, "preprocess_cfg": dict(preprocess or {})}
    (out / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for name, tensor in state_dict.items()
    }
    save_file(tensors, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    return out


def _write_tokenizer(out: Path, tokenizer: Tokenizer, context_length: int) -> None:
    """Write the two files transformers' AutoTokenizer needs when there is no config.json beside them."""
    tokenizer.save(str(out / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "pad_token": PAD,
        "bos_token": START,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
