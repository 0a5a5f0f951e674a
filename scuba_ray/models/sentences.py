"""Sentence encoders as judges: any encoder of Hugging Face's transformers, mean-pooled, which reads texts and no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scuba_ray.errors import ConfigError
from scuba_ray.models.files import digest_files
from scuba_ray.protocols import Scaling

if TYPE_CHECKING:
    from PIL import Image

_AT_ONCE = 64
_NEEDED = "config.json"


class SentenceEncoder:
    """The mean of an encoder's last hidden states over a sentence's tokens (Reimers & Gurevych 2019, their default).

    Parameters
    ----------
    name
        Value of the key column `judge`.
    model
        `sentences:DIRECTORY`: a directory with config, tokenizer and safetensors weights, as `save_pretrained` writes it.

    Raises
    ------
    ConfigError
        If there is no such directory, or no model in it.
    """

    scaling: Scaling = "unit"

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        self._directory = Path(model.partition(":")[2]).expanduser().absolute()
        if not (self._directory / _NEEDED).is_file():
            raise ConfigError(f"judge {name}: {self._directory} holds no {_NEEDED}; want sentences:DIRECTORY of a saved encoder")
        self._network: Any = None
        self._tokenizer: Any = None
        self._device = "cpu"

    @cached_property
    def dim(self) -> int:
        """Length of a sentence's embedding."""
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(self._directory, local_files_only=True).hidden_size)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of all files of the directory."""
        return digest_files(sorted(path for path in self._directory.iterdir() if path.is_file())).hexdigest()[:16]

    def load(self, device: str) -> SentenceEncoder:
        """Read tokenizer and weights (safetensors only) onto `device` and return self. Raises ConfigError if that fails."""
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._directory, local_files_only=True)
            network = AutoModel.from_pretrained(self._directory, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(f"judge {self.name}: transformers cannot load {self._directory}: {error}") from error
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = device
        return self

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return embeddings (B, D), float32; a text longer than the encoder reads is cut."""
        found = [torch.empty(0, self.dim, device=self._device)]
        limit = int(getattr(self._network.config, "max_position_embeddings", 512))
        for start in range(0, len(texts), _AT_ONCE):
            tokens = self._tokenizer(
                list(texts[start : start + _AT_ONCE]), padding=True, truncation=True, max_length=limit, return_tensors="pt"
            ).to(self._device)
            hidden_BTD = self._network(**tokens).last_hidden_state.float()
            mask_BT1 = tokens["attention_mask"][..., None]
            found.append((hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1))
        return torch.cat(found)

    def preprocessing(self, image: Image.Image) -> Any:
        """Refuse: ConfigError."""
        raise ConfigError(f"{self.model} is a sentence encoder and reads no pictures")

    preprocess = normalise = embed_images = preprocessing
