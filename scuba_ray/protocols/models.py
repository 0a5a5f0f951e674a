"""By which model: backbones and captioners, and nothing about how they work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image


Scaling = Literal["unit", "standard"]
"""How `fit` scales a feature space: each row to length one (embeddings of a network), or each feature by the training images'
mean and deviation (features with units of their own)."""
LOW_LEVEL = "low-level"
"""Value of the `backbone` key column for the low-level baseline, and its name among `fit.bands`."""


class Backbone(Protocol):
    """An image/text embedding network. Embeddings are *raw*: CLIPCap was trained on un-normalised ones, norms matter.

    Built from a specification without loading weights; `load(device)` returns self, ready.
    """

    name: str
    """The value of the `backbone` key column."""
    dim: int
    scaling: Scaling
    """`unit` for every image/text network."""
    fingerprint: str
    """16 hex digits of the checkpoint's content: two backbones with equal fingerprints embed equally."""

    preprocessing: Callable[[Image.Image], np.ndarray]
    """One RGB picture to what the network reads before normalisation, uint8 (3, H, W). Picklable and without weights (or torch,
    if it can be): it runs in processes of its own, where a decoder that crashes takes nothing with it."""

    def load(self, device: str) -> Backbone: ...

    def normalise(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """What `preprocessing` gave, uint8 (B, 3, H, W), as the float32 pixels `embed_images` reads, on the network's device."""
        ...

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One RGB picture to a float tensor (3, H, W), as the network was trained: `normalise` of `preprocessing`."""
        ...

    def embed_images(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        """Raw image embeddings (B, D), float32, on the network's device."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Raw text embeddings (B, D), float32."""
        ...


@runtime_checkable
class DifferentiableBackbone(Backbone, Protocol):
    """A backbone that a gradient can be taken through: what guides images towards voxels."""

    def embed_pictures(self, pictures_B3HW: torch.Tensor) -> torch.Tensor:
        """Raw embeddings (B, D), float32, of pictures in [0, 1], of any size, with gradient.

        Sized and normalised as the network was trained, in torch: equal to `embed_images` of `preprocess` up to resampling.
        """
        ...


@dataclass(frozen=True)
class CaptionBeam:
    """One decoded sentence with the mean log-probability its beam was ranked by."""

    text: str
    logprob: float


class Captioner(Protocol):
    """Turns projected embeddings into sentences. States which backbone it was trained for: a mismatch is a ConfigError."""

    fingerprint: str
    dim: int
    trained_for: str
    """Fingerprint (or published name) of the backbone whose raw embeddings it reads."""

    def load(self, device: str) -> Captioner: ...

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ConfigError unless `backbone` is the one this captioner reads."""
        ...

    def captions(self, embeddings_VD: torch.Tensor, keys: Sequence[str] | None = None) -> list[list[CaptionBeam]]:
        """For each embedding its beams (or samples), best first. A row's beams do not depend on the rows beside it.

        `keys` name the rows where captions are drawn: rows of different names draw independently, and a name draws the same
        again. Without them a row's name is its embedding.
        """
        ...


@dataclass(frozen=True)
class ImageRequest:
    """One picture to be made. It can be made again alone: nothing else decides what it shows."""

    prompt: str
    """Empty for the null prompt."""
    seed: int
    """Of its own noise, in [0, 2**32)."""
    direction_D: np.ndarray | None = None
    """Gradient routes: the mean weight of the voxels that are driven, raw, in the space of the synthesizer's backbone."""


@dataclass(frozen=True)
class MadeImage:
    """A picture as it was made."""

    pixels_HW3: np.ndarray
    """uint8 RGB."""
    seconds: float
    """Its share of the time of the batch it was made in."""
    batch: int
    """Pictures that were made together: the configured batch, or less where memory ended."""
    truncated: bool = False
    """The prompt was longer than the text encoder reads, and its end was left out."""


class Synthesizer(Protocol):
    """Makes pictures: from prompts (text route), or by the gradient of voxels (gradient route).

    Built as `Synthesizer(diffusion: DiffusionConfig, route: TextRouteConfig | GradientRouteConfig, backbone: Backbone)` without
    loading weights; raises ConfigError if the model cannot be had. Picklable before `load`.
    """

    fingerprint: str
    """16 hex digits of the checkpoint's content and of every setting that can change a picture."""

    def load(self, device: str) -> Synthesizer: ...

    def images(self, requests: Sequence[ImageRequest]) -> list[MadeImage]:
        """Pictures in the order of the requests. A picture does not depend on those beside it, nor on the batch (<= 1/255)."""
        ...
