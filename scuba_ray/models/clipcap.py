"""Captions from projected embeddings: a prefix MLP and GPT-2, decoded by CLIPCap's published beam rule (`core/beam.py`), greedily
(one beam), or by nucleus sampling (`core/sampling.py`).

Loads a captioner directory (`scuba captioner train`), one that ships with scuba_ray (`phantom:NAME`), or the published CLIPCap
checkpoint (`clipcap:PATH.pt`). A captioner reads the raw embeddings of the one backbone it was trained on, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from scuba_ray.core.beam import beam_search
from scuba_ray.core.decoding import Sentences
from scuba_ray.core.sampling import nucleus_sample
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.cached_gpt2 import CachedGPT2, decoding_bytes
from scuba_ray.models.caption_text import load_tokenizer, stop_token
from scuba_ray.models.captioner_directory import captioner_fingerprint, gpt2_directory, read_about, read_captioner
from scuba_ray.models.clipcap_checkpoint import published_shapes, read_published
from scuba_ray.models.files import digest_files, packaged
from scuba_ray.models.prefix_model import PrefixModel
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
    rule, beams, max_tokens, temperature, stop
        The decoding rule; the defaults are the published ones. `beams` is for the rule `beam`.
    top_p, samples, seed
        For the rule `nucleus` (`core.sampling`).
    precision
        Of the language model's matrix products and cache; the prefix, norms and logits are float32.
    batch
        Different embeddings decoded together. Memory: `batch` times `decoding_bytes`, beside the weights.
    memory_gib
        GiB for that; the batch is made smaller if it has to be.

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
        rule: Literal["beam", "greedy", "nucleus"] = "beam",
        beams: int = 5,
        max_tokens: int = 67,
        temperature: float = 1.0,
        stop: str = ".",
        top_p: float = 0.9,
        samples: int = 5,
        seed: int = 0,
        precision: Literal["float32", "float16", "bfloat16"] = "float32",
        batch: int = 64,
        memory_gib: float | None = None,
    ) -> None:
        scheme, _, rest = model.partition(":")
        self.model = model
        self._rule, self._top_p, self._seed = rule, top_p, seed
        self._count = {"beam": beams, "greedy": 1, "nucleus": samples}[rule]
        self._max_tokens, self._temperature, self._stop = max_tokens, temperature, stop
        self._precision, self._batch = precision, batch
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
        self._check_reach(prefix_length, memory_gib)
        self._network: PrefixModel | None = None
        self._language: CachedGPT2 | None = None
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
        self._network = network.to(device).eval().requires_grad_(False)
        self._language = CachedGPT2(network.gpt, None if self._precision == "float32" else getattr(torch, self._precision))
        return self

    def captions(self, embeddings_VD: Tensor, keys: Sequence[str] | None = None) -> list[list[CaptionBeam]]:
        """Decode each raw embedding; return its beams or samples, best first. What would come out equal is decoded once.

        Raises
        ------
        DataError
            If an embedding holds NaN or infinity.
        """
        finite_V = embeddings_VD.isfinite().all(dim=1)
        if not finite_V.all():
            raise DataError(f"embeddings to caption hold NaN or infinity in rows {(~finite_V).nonzero().flatten().tolist()[:10]}")
        content_V = [row.tobytes() for row in embeddings_VD.cpu().numpy()]
        name_V = [content.hex() for content in content_V] if keys is None else keys
        draws = self._rule == "nucleus"
        place_V: list[int] = []
        firsts: dict[tuple[bytes, str], tuple[int, int]] = {}
        for row, (content, name) in enumerate(zip(content_V, name_V, strict=True)):
            place_V.append(firsts.setdefault((content, name if draws else ""), (len(firsts), row))[0])
        row_U = [row for _, row in firsts.values()]
        found: list[list[CaptionBeam]] = []
        for start in range(0, len(row_U), self._batch):
            rows = row_U[start : start + self._batch]
            found += self._texts(self.decode(embeddings_VD[rows], [name_V[row] for row in rows]))
        return [list(found[place]) for place in place_V]

    @torch.inference_mode()
    def decode(self, embeddings_BD: Tensor, name_B: Sequence[str]) -> Sentences:
        """Decode one batch to token ids. Names are those of `captions`."""
        assert self._network is not None and self._language is not None, "load() first"
        weight = next(self._network.parameters())
        prefix_BPE = self._network.prefix(embeddings_BD.to(weight.device, weight.dtype))
        limits: dict[str, Any] = {"stop": self._end, "max_tokens": self._max_tokens, "temperature": self._temperature}
        if self._rule != "nucleus":
            return beam_search(self._language, prefix_BPE, beams=self._count, **limits)
        drawing: dict[str, Any] = {"samples": self._count, "top_p": self._top_p, "seed": self._seed}
        return nucleus_sample(self._language, prefix_BPE, name_B, **drawing, **limits)

    def _texts(self, found: Sentences) -> list[list[CaptionBeam]]:
        """Ids to text."""
        lengths = found.length_VM.flatten().tolist()
        ids = [row[:length] for row, length in zip(found.token_VML.flatten(0, 1).tolist(), lengths, strict=True)]
        texts = self._tokenizer.batch_decode(ids)
        pairs = zip(texts, found.logprob_VM.flatten().tolist(), strict=True)
        flat = [CaptionBeam(text.strip(), logprob) for text, logprob in pairs]
        return [flat[start : start + self._count] for start in range(0, len(flat), self._count)]

    def _check_reach(self, prefix_length: int, memory_gib: float | None) -> None:
        """Fit the batch into the memory. Raise ConfigError if that or the language model is too small for the settings."""
        settings = json.loads((self._gpt2 / "config.json").read_text(encoding="utf-8"))
        positions, vocab = settings.get("n_positions", 1024), settings.get("vocab_size", 50257)
        if prefix_length + self._max_tokens > positions:
            raise ConfigError(
                f"caption.max_tokens must be <= {positions - prefix_length} for {self.model}, got {self._max_tokens}"
            )
        if self._rule == "beam" and self._count > vocab:
            raise ConfigError(f"caption.beams must be <= {vocab}, the vocabulary of {self.model}, got {self._count}")
        if memory_gib is None:
            return
        needed = decoding_bytes(
            layers=settings.get("n_layer", 12), width=settings.get("n_embd", 768), vocabulary=vocab, prefix_length=prefix_length,
            sentences=self._count, max_tokens=self._max_tokens, element=4 if self._precision == "float32" else 2,
        )  # fmt: skip
        self._batch = min(self._batch, int(memory_gib * 2**30 / needed))
        if not self._batch:
            raise ConfigError(
                f"caption.memory_gib must be >= {needed / 2**30:.2g} for one voxel of {self.model}, got {memory_gib:g}; "
                "fewer max_tokens need less"
            )


def make_captioner(config: CaptionConfig) -> Captioner:
    """Build the captioner a configuration names, without reading weights. Raises ConfigError if it cannot work."""
    scheme, colon, _ = config.model.partition(":")
    prefix = scheme in {"phantom", "clipcap"} or not colon or Path(config.model).exists()
    made: Captioner = resolve("captioner", "prefix" if prefix else config.model)(
        config.model, language_model=config.language_model, trained_for=config.trained_for, rule=config.rule,
        beams=config.beams, max_tokens=config.max_tokens, temperature=config.temperature, stop=config.stop, top_p=config.top_p,
        samples=config.samples, seed=config.seed, precision=config.precision, batch=config.batch, memory_gib=config.memory_gib,
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
