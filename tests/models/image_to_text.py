"""Image-to-text models small enough for a test, in both layouts: two models joined, and one with a processor of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

COLOURS = ("red", "blue")
_SPECIAL = ["[PAD]", "[UNK]", "[END]", "[BEGIN]"]
_WORDS = [*_SPECIAL, "a", "picture", "of", *COLOURS]
_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_SIZE = {"height": 32, "width": 32}


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[END]", "sep_token": "[END]", "bos_token": "[BEGIN]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def _teach(model: torch.nn.Module, processor: object) -> None:
    """Teach it `a picture of red` and `... blue`."""
    from PIL import Image

    pixels = processor([Image.new("RGB", (40, 30), colour) for colour in COLOURS], return_tensors="pt")["pixel_values"]
    sentence = [[3, 4, 5, 6, 7 + index, 2] for index in range(len(COLOURS))]
    labels = torch.tensor(sentence)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(60):
        if isinstance(model, BlipForConditionalGeneration):
            loss = model(pixel_values=pixels, input_ids=labels, labels=labels).loss
        else:
            loss = model(pixel_values=pixels, labels=labels[:, 1:]).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def write_joined(folder: Path) -> Path:
    """A ViT and a GPT-2 (the layout of vit-gpt2 captioners): no processor, an image processor and a tokenizer."""
    torch.manual_seed(0)
    vit = ViTConfig(**_SMALL, image_size=32, patch_size=16)
    gpt2 = GPT2Config(vocab_size=len(_WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=3, eos_token_id=2)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vit, gpt2)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 3, 0, 2
    model, processor = VisionEncoderDecoderModel(config), ViTImageProcessor(size=_SIZE)
    _teach(model, processor)
    for part in (model, processor, _tokenizer()):
        part.save_pretrained(folder)
    return folder


def write_blip(folder: Path) -> Path:
    """A BLIP: one model with a processor of its own, which may be told how a sentence begins."""
    torch.manual_seed(0)
    tokens = {"bos_token_id": 3, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    text = {**_SMALL, "vocab_size": len(_WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 40, **tokens}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config={**_SMALL, "image_size": 32, "patch_size": 16})
    )
    torch.nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.1)
    processor = BlipImageProcessor(size=_SIZE)
    _teach(model, processor)
    model.save_pretrained(folder)
    BlipProcessor(processor, _tokenizer()).save_pretrained(folder)
    return folder
