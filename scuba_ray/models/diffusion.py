"""From captions to pictures (BrainSCUBA's text route): any text-to-image model of diffusers.

Sampled with DPM-Solver++ of order 2, as in the paper, unless the model's own sampler is asked for; models trained by flow
matching (FLUX, Stable Diffusion 3) or on EDM's scale of noise always keep their own. A picture's noise is drawn on the CPU from
its seed alone, so it is the same on every device, in every batch, and can be made again by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scuba_ray.config.synthesis import DiffusionConfig, TextRouteConfig
from scuba_ray.models.batches import Batches
from scuba_ray.models.diffusion_files import find_diffusion
from scuba_ray.models.diffusion_pipeline import load_pipeline, pixels_of, quiet
from scuba_ray.protocols import Backbone, ImageRequest, MadeImage
from scuba_ray.tables.fingerprint import fingerprint

if TYPE_CHECKING:
    import numpy as np


class TextToImage:
    """Makes each request's prompt. No backbone has a part in it.

    Raises ConfigError if the model is not on this machine or cannot make pictures of this size.
    """

    def __init__(self, diffusion: DiffusionConfig, route: TextRouteConfig, backbone: Backbone) -> None:
        files = find_diffusion(diffusion)
        files.check_size(diffusion.size)
        # a branch may stand elsewhere on another machine: workers look for the commit that was found here
        self._diffusion = diffusion if files.commit is None else diffusion.model_copy(update={"revision": files.commit})
        self._guidance = route.guidance
        self._sampler = "model" if files.keeps_sampler else diffusion.scheduler
        self._batches = Batches(diffusion.batch)
        self._pipeline: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the model's files and what else decides a picture.

        Not diffusers' version: its samplers are meant to give the same picture in every release, a run records the versions
        it used, and nobody wants all pictures made anew after an update.
        """
        settings = self._diffusion.model_dump(mode="json", include={"steps", "size", "precision"})
        model = find_diffusion(self._diffusion).fingerprint()
        return fingerprint("text to image", model, settings, {"sampler": self._sampler, "guidance": self._guidance})[:16]

    def load(self, device: str) -> TextToImage:
        """Read the weights onto `device`. Raises ConfigError if diffusers cannot."""
        import torch

        self._pipeline = load_pipeline(find_diffusion(self._diffusion), self._diffusion, device)
        for name in ("unet", "vae", "transformer"):
            network = getattr(self._pipeline, name, None)
            if network is not None:
                network.to(memory_format=torch.channels_last)
                if self._diffusion.compile and name != "vae":
                    network.compile()
        return self

    def images(self, requests: Sequence[ImageRequest]) -> list[MadeImage]:
        """Pictures in the order of the requests.

        Raises
        ------
        DataError
            If a picture is not finite, as half precision may give.
        WorkerError
            If memory ends with a single picture.
        """
        with quiet():
            made = self._batches.run(requests, self._make)
            return [replace(image, truncated=self._is_cut(request.prompt)) for image, request in zip(made, requests, strict=True)]

    def _make(self, batch: list[ImageRequest]) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            pictures_B3HW = self._pipeline(
                prompt=[request.prompt for request in batch],
                generator=[torch.Generator().manual_seed(request.seed) for request in batch],
                num_inference_steps=self._diffusion.steps,
                guidance_scale=self._guidance,
                height=self._diffusion.size,
                width=self._diffusion.size,
                output_type="pt",
            ).images.float()
        precision = self._diffusion.precision
        return pixels_of(pictures_B3HW, batch, f"synthesize.diffusion.precision ({precision}) to bfloat16 or float32")

    def _is_cut(self, prompt: str) -> bool:
        """Whether no text encoder reads a prompt to its end. FLUX's CLIP reads less than its T5: then nothing is lost."""
        # T5 reads any length; how much of it is the pipeline's own default
        most = inspect.signature(self._pipeline.__call__).parameters.get("max_sequence_length")
        tokenizers = [part for name, part in self._pipeline.components.items() if name.startswith("tokenizer") and part]
        limits = [min(part.model_max_length, most.default if most else part.model_max_length) for part in tokenizers]
        lengths = [len(part(prompt)["input_ids"]) for part in tokenizers]
        return all(length > limit for length, limit in zip(lengths, limits, strict=True))
