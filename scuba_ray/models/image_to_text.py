"""Descriptions of pictures by any image-to-text model of Hugging Face: BLIP, GIT, ViT-GPT2, vision-language models.

A model with a processor of its own is given pictures (and the prompt) through it; an encoder-decoder made of two models has an
image processor and a tokenizer instead. Greedy, in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scuba_ray.errors import ConfigError
from scuba_ray.models.hugging_face import model_directory, model_fingerprint

if TYPE_CHECKING:
    from PIL import Image

    from scuba_ray.config import DescribeConfig


class ImageToText:
    """An image-to-text model. Raises ConfigError if it is not on this machine; no weights are read before `load`."""

    def __init__(self, settings: DescribeConfig) -> None:
        assert settings.model is not None, "asked for where a model is named"
        self._settings = settings
        self._directory: Path = model_directory(settings.model, "lavca.describe.model")
        self._model: Any = None
        self._processor: Any = None
        self._tokenizer: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the model's files."""
        return model_fingerprint(self._directory)

    def load(self, device: str) -> ImageToText:
        """Read the weights onto `device`. Raises ConfigError if transformers cannot."""
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

        try:
            model = AutoModelForImageTextToText.from_pretrained(self._directory, local_files_only=True)
            self._processor = AutoProcessor.from_pretrained(self._directory, local_files_only=True)
            if hasattr(self._processor, "image_processor"):
                self._tokenizer = self._processor.tokenizer
                self._tokenizer.padding_side = "left"
            else:
                self._processor = AutoImageProcessor.from_pretrained(self._directory, local_files_only=True)
                self._tokenizer = AutoTokenizer.from_pretrained(self._directory, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"lavca.describe.model: transformers cannot load {self._directory} as an image-to-text model: {error}"
            ) from error
        self._model = model.to(device).eval()
        return self

    @torch.inference_mode()
    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        """A description of each RGB picture, in order."""
        found: list[str] = []
        for start in range(0, len(pictures), self._settings.batch):
            inputs = self._inputs(list(pictures[start : start + self._settings.batch])).to(self._model.device)
            given = inputs["input_ids"].shape[1] if "input_ids" in inputs and not self._model.config.is_encoder_decoder else 0
            written = self._model.generate(**inputs, do_sample=False, max_new_tokens=self._settings.max_tokens)
            # some decoders give back what they were given before what they wrote
            repeated = given and written.shape[1] > given and torch.equal(written[:, :given], inputs["input_ids"])
            texts = self._tokenizer.batch_decode(written[:, given if repeated else 0 :], skip_special_tokens=True)
            found += [text.strip() for text in texts]
        return found

    def _inputs(self, pictures: list[Image.Image]) -> Any:
        prompt = self._settings.prompt
        if prompt is None:
            return self._processor(images=pictures, return_tensors="pt")
        if not hasattr(self._processor, "image_processor"):
            raise ConfigError(f"lavca.describe.prompt: {self._settings.model} takes no text beside a picture; leave it out")
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            prompt = self._processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self._processor(images=pictures, text=[prompt] * len(pictures), padding=True, return_tensors="pt")
