"""Backbones through open_clip: any of its architectures and checkpoints, a local directory, or one that ships with scuba_ray.

Embeddings are raw, in float32: CLIPCap reads un-normalised ones, and the projection keeps their norm (METHOD: BrainSCUBA's
equation 4 and its code). Preprocessing is open_clip's own validation transform of the same model, made with Pillow
(`models.pictures`) up to the point where pictures stop being 8-bit.

open_clip is imported where it is used: that takes seconds, and a run that finds every step complete only asks a directory's
fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scuba_ray.errors import ConfigError
from scuba_ray.models.clip_directory import directory_fingerprint, read_model_config, read_preprocessing
from scuba_ray.models.differentiable import framed
from scuba_ray.models.files import digest_files, packaged
from scuba_ray.models.hub import fetched
from scuba_ray.models.pictures import OPEN_CLIP, Framed
from scuba_ray.protocols import Scaling
from scuba_ray.registry import SEAMS, resolve

if TYPE_CHECKING:
    from PIL import Image

    from scuba_ray.config import BackboneConfig
    from scuba_ray.protocols import Backbone

_TEXTS_AT_ONCE = 256


class OpenClipBackbone:
    """An image/text network of open_clip.

    Parameters
    ----------
    name
        Value of the `backbone` key column.
    model
        `open_clip:ARCH/PRETRAINED` (a tag of open_clip, or a checkpoint file), `local-dir:PATH` (a directory as open_clip's
        `local-dir:` reads it) or `phantom:NAME` (such a directory that ships with scuba_ray).

    Raises
    ------
    ConfigError
        If the specification, architecture, tag or directory cannot work. No weights are read yet.
    """

    scaling: Scaling = "unit"

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        scheme, _, rest = model.partition(":")
        self._directory: Path | None = None
        if scheme == "open_clip":
            self._arch, _, self._pretrained = rest.partition("/")
            config = _hub_config(model, self._arch, self._pretrained)
        elif not rest:
            raise ConfigError(f"backbone {name}: want open_clip:ARCH/PRETRAINED, local-dir:PATH or phantom:NAME, got {model!r}")
        else:
            self._directory = packaged(rest) if scheme == "phantom" else Path(rest).expanduser().absolute()
            self._arch, self._pretrained = f"local-dir:{self._directory}", ""
            config = read_model_config(self._directory)
        self._config = config
        self.dim = int(config["embed_dim"])
        self._settings = _preprocessing(config, self._tag if self._directory is None else read_preprocessing(self._directory))
        self.preprocessing = Framed.of(self._settings)
        self._network: Any = None
        self._tokenizer: Any = None
        self._device = "cpu"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over checkpoint, model configuration and tokenizer. Reads (and, if need be, downloads) the checkpoint."""
        if self._directory is not None:
            return directory_fingerprint(self._directory)
        digest = digest_files([self._checkpoint])
        about = {"model": self._config, "tokenizer": self._config["text_cfg"].get("hf_tokenizer_name")}
        digest.update(json.dumps(about, sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def load(self, device: str) -> OpenClipBackbone:
        """Read the weights onto `device` and return self.

        Raises
        ------
        ConfigError
            If the checkpoint cannot be had or does not fit the architecture.
        """
        import open_clip

        pretrained = str(self._checkpoint) if self._directory is None else None
        try:
            network = open_clip.create_model(self._arch, pretrained=pretrained, device=device)
            tokenizer = open_clip.get_tokenizer(self._arch)
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{self.model}: open_clip cannot load it: {error}") from error
        # convolutions on this layout take two thirds of the time, measured on a CPU
        self._network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._tokenizer, self._device = tokenizer, device
        return self

    def normalise(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Return uint8 pictures (B, 3, H, W) less the mean, over the deviation, float32, on the network's device."""
        mean_311, std_311 = (torch.tensor(self._settings[name])[:, None, None].to(self._device) for name in ("mean", "std"))
        # in place, and in torchvision's order: to the last bit what its transform gives
        return pixels_B3HW.to(self._device, non_blocking=True).float().div_(255).sub_(mean_311).div_(std_311)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Return open_clip's validation transform of one RGB picture, float32 (3, H, W). Needs no weights."""
        return self.normalise(torch.from_numpy(self.preprocessing(image))[None])[0]

    @torch.inference_mode()
    def embed_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Return raw image embeddings (B, D), float32."""
        embedding_BD: torch.Tensor = self._network.encode_image(pixels_B3HW.to(self._device, memory_format=torch.channels_last))
        return embedding_BD.float()

    def embed_pictures(self, pictures_B3HW: torch.Tensor) -> torch.Tensor:
        """Return raw embeddings (B, D), float32, of pictures (B, 3, H, W) in [0, 1], of any size, with gradient.

        Values beyond [0, 1], as decoders give them, are read as they are: a limit would have no gradient.
        """
        mean_311, std_311 = (torch.tensor(self._settings[name])[:, None, None].to(self._device) for name in ("mean", "std"))
        pixels_B3HW = (framed(pictures_B3HW.float(), self.preprocessing) - mean_311) / std_311
        embedding_BD: torch.Tensor = self._network.encode_image(pixels_B3HW.contiguous(memory_format=torch.channels_last))
        return embedding_BD.float()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return raw text embeddings (B, D), float32; (0, D) for no texts."""
        parts = [torch.empty(0, self.dim, device=self._device)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self._tokenizer(list(texts[start : start + _TEXTS_AT_ONCE]))
            parts.append(self._network.encode_text(tokens.to(self._device)).float())
        return torch.cat(parts)

    @cached_property
    def _tag(self) -> dict[str, Any]:
        """open_clip's record of the pretrained tag; empty where `PRETRAINED` is a file."""
        if self._directory is not None:
            return {}
        import open_clip

        return dict(open_clip.get_pretrained_cfg(self._arch, self._pretrained))

    @cached_property
    def _checkpoint(self) -> Path:
        """The checkpoint file of a hub model, downloaded where it is not cached yet."""
        return fetched(self.model, self._tag) if self._tag else Path(self._pretrained)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the checkpoint's place, which is another one on another machine."""
        return {name: value for name, value in self.__dict__.items() if name != "_checkpoint"}


def make_backbone(config: BackboneConfig) -> Backbone:
    """Build the backbone a configuration names, without reading weights. Raises ConfigError if it cannot work."""
    scheme = config.model.partition(":")[0]
    made: Backbone = resolve("backbone", scheme if scheme in SEAMS["backbone"] else config.model)(config.name, config.model)
    return made


def _preprocessing(config: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's settings of a model's preprocessing: its defaults, what tag or directory state, and the network's size."""
    known = {name: value for name, value in stated.items() if name in OPEN_CLIP and value is not None}
    settings = {**OPEN_CLIP, **known, "size": config["vision_cfg"].get("image_size", OPEN_CLIP["size"])}
    for name in ("mean", "std"):
        value = settings[name]
        settings[name] = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    return settings


def _hub_config(model: str, arch: str, pretrained: str) -> dict[str, Any]:
    """Return open_clip's configuration of `arch` after checking that `pretrained` is a checkpoint for it."""
    import open_clip

    known = open_clip.list_models()
    if arch not in known:
        alike = [name for name in known if name.lower().startswith(arch.lower()[:5])][:12]
        hint = f"names like it: {', '.join(alike)}" if alike else "see open_clip.list_models()"
        raise ConfigError(f"{model}: open_clip has no architecture {arch!r}; {hint}")
    config = dict(open_clip.get_model_config(arch))
    tag = open_clip.get_pretrained_cfg(arch, pretrained) if pretrained else {}
    if not tag and not Path(pretrained).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise ConfigError(f"{model}: want open_clip:ARCH/PRETRAINED with a tag of {arch} ({tags}) or a checkpoint file")
    quick = bool(config.get("quick_gelu", False))
    right = arch.removesuffix("-quickgelu") if quick else f"{arch}-quickgelu"
    # A file says nothing of its activation; a tag does, and open_clip only warns when the two differ. Architectures that are
    # quick without saying so in their name (roberta-ViT-B-32) have tags that do not say so either: those belong together.
    if tag and bool(tag.get("quick_gelu", False)) != quick and right != arch:
        raise ConfigError(
            f"{model}: these weights were trained with the other activation, so {arch} would embed wrongly; "
            f"use open_clip:{right}/{pretrained}"
        )
    return config
