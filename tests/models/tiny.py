"""Small random models for tests, written to disk in the layouts the real ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from scuba_ray.models.clip_export import train_text_tokenizer, write_open_clip_directory

WORDS = ["a red fox", "a blue bus", "two green apples on a table", "an old tall house", "pizza"]
TOWERS = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
    "text_cfg": {"context_length": 16, "width": 32, "heads": 2, "layers": 1},
}


def write_tiny(out: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    tokenizer = train_text_tokenizer(WORDS, 300)
    config = {**TOWERS, "text_cfg": {**TOWERS["text_cfg"], "vocab_size": tokenizer.get_vocab_size()}}
    torch.manual_seed(seed)
    network = open_clip.CLIP(**config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(1.0)  # open_clip starts residual branches at zero: then every picture embeds alike
    write_open_clip_directory(out, model_config=config, state_dict=network.state_dict(), tokenizer=tokenizer)
    return network.state_dict()


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (80, 100, 3), dtype=np.uint8))
