"""From a brain to pictures by gradient (BrainDiVE, arXiv 2306.03089): a diffusion model steered towards what drives voxels.

At every step the picture that the model is heading for is decoded and embedded, and the noise that it predicts is turned by the
gradient of the voxels' predicted response. Only fitted voxels drive: the published code's mean included voxels that were set to
zero (METHOD.md, section 5). The noise of a picture comes from its own seed, and the objective is a sum over the pictures of a
batch, so that none depends on those beside it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from scuba_ray.config.synthesis import DiffusionConfig, GradientRouteConfig
from scuba_ray.core.guidance import blend, clean_of, degraded, guided, noise_of, said_of
from scuba_ray.errors import ConfigError
from scuba_ray.models.batches import Batches
from scuba_ray.models.denoiser import LEAST_ALPHA, Denoiser, check_denoiser
from scuba_ray.models.diffusion_files import find_diffusion
from scuba_ray.models.diffusion_pipeline import pixels_of, quiet
from scuba_ray.protocols import Backbone, DifferentiableBackbone, ImageRequest, MadeImage
from scuba_ray.tables.fingerprint import fingerprint

_AMPLIFIED = 2.0**10
"""The objective is multiplied by it before the way back, and its gradient divided: in float16 small gradients would be zero. A
power of two changes nothing else."""


class BrainGuided:
    """Makes pictures of the null prompt, guided towards each request's `direction_D`.

    The objective of a picture is the mean over its voxels of w . x/|x| + b, x the embedding of the blend (`core.guidance.blend`)
    after the decoder. Readouts are linear, so that this mean is one product, direction . x/|x| with the mean weight of the
    *fitted* voxels, and b has no gradient.

    A batch of B pictures holds the activations of UNet, decoder and backbone for the way back. On CUDA those of UNet and decoder
    are recomputed block by block (gradient checkpointing), which trades time for memory; how much is not measured here.

    Raises
    ------
    ConfigError
        If the model is not on this machine or cannot be guided, or if the backbone has no gradient.
    """

    def __init__(self, diffusion: DiffusionConfig, route: GradientRouteConfig, backbone: Backbone) -> None:
        files = find_diffusion(diffusion)
        check_denoiser(files, attention=route.self_attention > 0)
        files.check_size(diffusion.size)
        if not isinstance(backbone, DifferentiableBackbone):
            raise ConfigError(
                f"synthesize.gradient needs a backbone that a gradient can be taken through (a method embed_pictures), and "
                f"{backbone.name} ({type(backbone).__name__}) has none; those of open_clip do, or set synthesize.gradient: null"
            )
        # a branch may stand elsewhere on another machine: workers look for the commit that was found here
        self._diffusion = diffusion if files.commit is None else diffusion.model_copy(update={"revision": files.commit})
        self._route = route
        self._backbone: DifferentiableBackbone = backbone
        self._batches = Batches(diffusion.batch)
        self._denoiser: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the model's files, the backbone and what else decides a picture."""
        settings = self._diffusion.model_dump(mode="json", include={"steps", "size", "precision", "scheduler"})
        strengths = self._route.model_dump(mode="json", include={"scale", "self_attention"})
        model = find_diffusion(self._diffusion).fingerprint()
        return fingerprint("brain guided", model, self._backbone.fingerprint, settings, strengths)[:16]

    def load(self, device: str) -> BrainGuided:
        """Read the weights of the model and of the backbone onto `device`. Raises ConfigError if they cannot be loaded."""
        files = find_diffusion(self._diffusion)
        with quiet():
            self._denoiser = Denoiser(files, self._diffusion, device, attention=self._route.self_attention > 0)
        self._backbone.load(device)
        return self

    def images(self, requests: Sequence[ImageRequest]) -> list[MadeImage]:
        """Pictures in the order of the requests.

        Raises
        ------
        ConfigError
            If a request has no direction, one of another dimension than the backbone's, or a prompt.
        DataError
            If a picture is not finite.
        WorkerError
            If memory ends with a single picture.
        """
        for request in requests:
            self._check(request)
        with quiet():
            return self._batches.run(requests, self._make)

    def _check(self, request: ImageRequest) -> None:
        if request.prompt:
            raise ConfigError(f"the gradient route draws the null prompt, and got the prompt {request.prompt!r}; make it empty")
        got = "none" if request.direction_D is None else f"one of shape {request.direction_D.shape}"
        if request.direction_D is not None and not np.isfinite(request.direction_D).all():
            raise ConfigError(f"the gradient route needs the direction of fitted voxels, and got {got} that is not finite")
        if request.direction_D is None or request.direction_D.shape != (self._backbone.dim,):
            raise ConfigError(
                f"the gradient route needs a direction for each picture, the mean weight of its voxels in the space of "
                f"{self._backbone.name} ({self._backbone.dim} values), and got {got}"
            )

    def _make(self, batch: list[ImageRequest]) -> list[np.ndarray]:
        model: Denoiser = self._denoiser
        scheduler, device = model.scheduler, model.device
        scheduler.set_timesteps(self._diffusion.steps, device=device)
        generators = [torch.Generator().manual_seed(request.seed) for request in batch]
        noise_BCHW = torch.stack([torch.randn(model.shape, generator=generator) for generator in generators])
        state_BCHW = noise_BCHW.to(device) * scheduler.init_noise_sigma
        direction_BD = torch.stack([torch.as_tensor(request.direction_D).float() for request in batch]).to(device)
        # samplers that add noise take it from the picture's own seed
        draws = "generator" in inspect.signature(scheduler.step).parameters
        drawing = {"generator": generators} if draws else {}
        for timestep in scheduler.timesteps:
            x_t = scheduler.scale_model_input(state_BCHW, timestep)  # to unit variance, where a sampler keeps another
            said = self._guided(x_t, timestep, direction_BD)
            state_BCHW = scheduler.step(said, timestep, state_BCHW, return_dict=False, **drawing)[0]
        with torch.no_grad():
            pictures_B3HW = model.decoded(state_BCHW).clamp(0, 1)
        remedy = "a smaller synthesize.gradient.scale, or synthesize.diffusion.precision to bfloat16 or float32"
        return pixels_of(pictures_B3HW, batch, remedy)

    def _guided(self, x_t: torch.Tensor, timestep: torch.Tensor, direction_BD: torch.Tensor) -> torch.Tensor:
        """Return what the UNet would say of a state if it knew of the voxels, (B, C, H, W), in its own kind of prediction."""
        model: Denoiser = self._denoiser
        alpha_bar, kind = model.alpha_bar(timestep), model.prediction
        if alpha_bar <= LEAST_ALPHA:  # pure noise: there is no picture in it yet that could be guided
            with torch.no_grad():
                return model.said(x_t, timestep)
        steered = self._route.scale > 0
        with torch.set_grad_enabled(steered):
            x_t = x_t.detach().requires_grad_(steered)
            eps = noise_of(model.said(x_t, timestep), x_t, alpha_bar, kind)
            gradient = self._gradient(eps, x_t, alpha_bar, direction_BD) if steered else None
        eps, x_t = eps.detach(), x_t.detach()
        new = eps if gradient is None else guided(eps, self._route.scale * gradient, alpha_bar)
        if self._route.self_attention > 0:
            blurred_t = degraded(clean_of(eps, x_t, alpha_bar), eps, model.received_BN, alpha_bar)
            with torch.no_grad():
                blind = noise_of(model.said(blurred_t, timestep), blurred_t, alpha_bar, kind)
            new = new + self._route.self_attention * (eps - blind)
        return said_of(new, x_t, alpha_bar, kind)

    def _gradient(self, eps: torch.Tensor, x_t: torch.Tensor, alpha_bar: float, direction_BD: torch.Tensor) -> torch.Tensor:
        """Return the gradient of each picture's predicted response by its own state, (B, C, H, W)."""
        pictures_B3HW = self._denoiser.decoded(blend(clean_of(eps, x_t, alpha_bar), x_t, alpha_bar))
        unit_BD = torch.nn.functional.normalize(self._backbone.embed_pictures(pictures_B3HW), dim=1)
        objective = _AMPLIFIED * (unit_BD * direction_BD).sum()
        return torch.autograd.grad(objective, x_t)[0] / _AMPLIFIED
