"""Captions from projected embeddings: a prefix MLP and GPT-2, decoded by CLIPCap's published beam rule (`core/beam.py`).

Loads a captioner directory (`scuba captioner train`), one that ships with scuba_ray (`phantom:NAME`), or the published CLIPCap
checkpoint (`clipcap:PATH.pt`). A captioner reads the raw embeddings of the one backbone it was trained on, and says so.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scuba_ray.core.beam import Beams, beam_search
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.caption_text import load_tokenizer, stop_token
from scuba_ray.models.captioner_directory import captioner_fingerprint, gpt2_directory, read_about, read_captioner
from scuba_ray.models.clipcap_checkpoint import published_shapes, read_published
from scuba_ray.models.files import digest_files, packaged
from scuba_ray.models.prefix_model import CachedGPT2, PrefixModel, fuse_gelu
from scuba_ray.protocols import Backbone, CaptionBeam, Captioner
from scuba_ray.registry import resolve

if TYPE_CHECKING:
    from scuba_ray.config import CaptionConfig

PUBLISHED_BACKBONE = "open_clip:ViT-B-32-quickgelu/openai"
"""What the published checkpoint reads: OpenAI's ViT-B/32, under the open_clip name that builds its activation."""


class PrefixCaptioner:
    """A CLIPCap-style captioner. Nothing but its description is read before `load`.

    Parameters
    ----------
    model
        A captioner directory, `phantom:NAME` or `clipcap:CHECKPOINT.pt`.
    language_model
        For `clipcap:` only: a local GPT-2 directory (config.json and tokenizer; its weights are not needed).
    trained_for
        For `clipcap:` only: fingerprint of the backbone it reads. Without it only the backbone named `PUBLISHED_BACKBONE` is
        accepted: a checkpoint does not say what it was trained on, and shapes are no proof.
    beams, max_tokens, temperature, stop
        The decoding rule; the defaults are the published ones.
    batch
        Embeddings decoded together. Memory: `batch * beams * (prefix_length + max_tokens) * n_layer * 2 * n_embd * 4` bytes of
        cache and `batch * beams * vocabulary * 4` of logits.

    Raises
    ------
    ConfigError
        If the captioner is missing, incomplete or cannot be decoded with these settings.
    """

    def __init__(
        self,
        model: str,
        *,
        language_model: str | None = None,
        trained_for: str | None = None,
        beams: int = 5,
        max_tokens: int = 67,
        temperature: float = 1.0,
        stop: str = ".",
        batch: int = 64,
    ) -> None:
        scheme, _, rest = model.partition(":")
        self.model = model
        self._beams, self._max_tokens, self._temperature, self._stop, self._batch = beams, max_tokens, temperature, stop, batch
        self._checkpoint: Path | None = None
        if scheme == "clipcap":
            self._checkpoint = Path(rest).expanduser().absolute()
            self._gpt2 = _language_model(model, language_model)
            shapes = published_shapes(self._checkpoint)
            self.dim, prefix_length = shapes.dim, shapes.prefix_length
            self.trained_for, self._backbone = trained_for or PUBLISHED_BACKBONE, "stated in caption.trained_for"
        else:
            if language_model or trained_for:
                raise ConfigError(f"captioner {model}: caption.language_model and caption.trained_for are for clipcap: only")
            self._directory = packaged(rest) if scheme == "phantom" else Path(model).expanduser().absolute()
            about = read_about(self._directory)
            self._gpt2 = gpt2_directory(self._directory)
            self.dim, prefix_length = about.dim, about.prefix_length
            self.trained_for, self._backbone = about.trained_for, about.backbone
        self._check_reach(prefix_length)
        self._network: PrefixModel | None = None
        self._tokenizer: Any = None
        self._end = -1

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights, configuration and tokenizer; the decoding settings are not part of it."""
        if self._checkpoint is None:
            return captioner_fingerprint(self._directory)
        names = ("config.json", "tokenizer.json", "vocab.json", "merges.txt")
        beside = [self._gpt2 / name for name in names if (self._gpt2 / name).is_file()]
        return digest_files([self._checkpoint, *beside]).hexdigest()[:16]

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ConfigError unless `backbone` is the one this captioner reads (by fingerprint, or by the published name)."""
        used = f"backbone {backbone.name} ({getattr(backbone, 'model', type(backbone).__name__)}, dim {backbone.dim}"
        if backbone.dim != self.dim:
            raise ConfigError(f"captioner {self.model} reads embeddings of length {self.dim}, not those of {used})")
        if self.trained_for == getattr(backbone, "model", None):  # first: a hub model's fingerprint needs its checkpoint
            return
        if self.trained_for == backbone.fingerprint:
            return
        wanted = (
            self.trained_for if self.trained_for == PUBLISHED_BACKBONE else f"{self._backbone} (fingerprint {self.trained_for})"
        )
        hint = "train one for it: `scuba captioner train --backbone ...`"
        if self._checkpoint is not None:
            hint = f"if that backbone is a copy of the right one, say so: caption.trained_for: {backbone.fingerprint}"
        raise ConfigError(
            f"captioner {self.model} was trained for {wanted}, not for {used}, fingerprint {backbone.fingerprint}); {hint}"
        )

    def load(self, device: str) -> PrefixCaptioner:
        """Read the weights onto `device` and return self. Raises ConfigError if they do not fit, or `stop` is no token."""
        published = self._checkpoint
        network = read_published(published, self._gpt2) if published else read_captioner(self._directory)
        self._tokenizer = load_tokenizer(self._gpt2)
        self._end = stop_token(self._tokenizer, self._stop)
        fuse_gelu(network.gpt)
        self._network = network.to(device).eval().requires_grad_(False)
        return self

    def captions(self, embeddings_VD: Tensor) -> list[list[CaptionBeam]]:
        """Decode each raw embedding; return its beams, best first. Equal embeddings are decoded once.

        Raises
        ------
        DataError
            If an embedding holds NaN or infinity.
        """
        finite_V = embeddings_VD.isfinite().all(dim=1)
        if not finite_V.all():
            raise DataError(f"embeddings to caption hold NaN or infinity in rows {(~finite_V).nonzero().flatten().tolist()[:10]}")
        if not len(embeddings_VD):
            return []
        unique_UD, place_V = torch.unique(embeddings_VD, dim=0, return_inverse=True)
        found: list[list[CaptionBeam]] = []
        for embedding_BD in unique_UD.split(self._batch):
            found += self._sentences(self.beams(embedding_BD))
        return [list(found[place]) for place in place_V.tolist()]

    @torch.inference_mode()
    def beams(self, embeddings_BD: Tensor) -> Beams:
        """Decode one batch to token ids."""
        assert self._network is not None, "load() first"
        weight = next(self._network.parameters())
        prefix_BPE = self._network.prefix(embeddings_BD.to(weight.device, weight.dtype))
        return beam_search(
            CachedGPT2(self._network.gpt), prefix_BPE,
            stop=self._end, beams=self._beams, max_tokens=self._max_tokens, temperature=self._temperature,
        )  # fmt: skip

    def _sentences(self, beams: Beams) -> list[list[CaptionBeam]]:
        """Ids to text."""
        lengths = beams.length_VM.flatten().tolist()
        ids = [row[:length] for row, length in zip(beams.token_VML.flatten(0, 1).tolist(), lengths, strict=True)]
        texts = self._tokenizer.batch_decode(ids)
        pairs = zip(texts, beams.logprob_VM.flatten().tolist(), strict=True)
        flat = [CaptionBeam(text.strip(), logprob) for text, logprob in pairs]
        return [flat[start : start + self._beams] for start in range(0, len(flat), self._beams)]

    def _check_reach(self, prefix_length: int) -> None:
        """Raise ConfigError if the language model is too short or small for the decoding settings."""
        settings = json.loads((self._gpt2 / "config.json").read_text(encoding="utf-8"))
        positions, vocab = settings.get("n_positions", 1024), settings.get("vocab_size", 50257)
        if prefix_length + self._max_tokens > positions:
            raise ConfigError(
                f"caption.max_tokens must be <= {positions - prefix_length} for {self.model}, got {self._max_tokens}"
            )
        if self._beams > vocab:
            raise ConfigError(f"caption.beams must be <= {vocab}, the vocabulary of {self.model}, got {self._beams}")


def make_captioner(config: CaptionConfig) -> Captioner:
    """Build the captioner a configuration names, without reading weights. Raises ConfigError if it cannot work."""
    scheme, colon, _ = config.model.partition(":")
    prefix = scheme in {"phantom", "clipcap"} or not colon or Path(config.model).exists()
    made: Captioner = resolve("captioner", "prefix" if prefix else config.model)(
        config.model, language_model=config.language_model, trained_for=config.trained_for, beams=config.beams,
        max_tokens=config.max_tokens, temperature=config.temperature, stop=config.stop, batch=config.batch,
    )  # fmt: skip
    return made


def _language_model(model: str, language_model: str | None) -> Path:
    """The GPT-2 directory a published checkpoint needs. Raises ConfigError if it is not stated or not there."""
    if language_model is None:
        raise ConfigError(f"captioner {model}: set caption.language_model to a GPT-2 directory (config.json and tokenizer)")
    directory = Path(language_model).expanduser().absolute()
    if not (directory / "config.json").is_file():
        raise ConfigError(f"caption.language_model: {directory} has no config.json; it should be a Hugging Face GPT-2 directory")
    return directory
