"""A diffusion model seen as guidance needs it: what its UNet says of a noisy state, and which pictures a state stands for.

Latent models have a UNet2DConditionModel, an AutoencoderKL and text encoders, of which only the null prompt is asked (Stable
Diffusion 1, 2 and XL); pixel models have a UNet2DModel that is asked nothing. The null prompt is what classifier-free guidance
contrasts a prompt with: for most models the empty text, for Stable Diffusion XL zeros.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from scuba_ray.config.synthesis import DiffusionConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.diffusion_files import DiffusionFiles
from scuba_ray.models.diffusion_pipeline import load_pipeline

_SETTING = "synthesize.gradient"
_WORKS = "models with a UNet work: Stable Diffusion 1, 2 and XL, phantom:diffusion, or a DDPM of pixels (UNet2DModel)"
_LATENT, _PIXELS = "UNet2DConditionModel", "UNet2DModel"
LEAST_ALPHA = 2.0**-24
"""Stands for a cumulative alpha of zero, as in some of diffusers' samplers: a schedule may be stretched to pure noise."""


def check_denoiser(files: DiffusionFiles, *, attention: bool) -> None:
    """Refuse what the gradient route cannot guide, before any weights are read.

    Raises
    ------
    ConfigError
        If the model has no UNet of a kind that is known, or wants conditions other than a prompt; or if `attention` is asked
        for and the middle of the UNet has no self-attention.
    """
    kind = files.parts["unet"][1] if "unet" in files.parts else None
    where = f"{_SETTING}: {files.directory} ({files.pipeline})"
    vae = files.parts["vae"][1] if "vae" in files.parts else None
    if (kind, vae) not in {(_LATENT, "AutoencoderKL"), (_PIXELS, None)}:
        has = " and ".join(f"{name} ({files.parts[name][1]})" for name in ("transformer", "unet", "vae") if name in files.parts)
        raise ConfigError(f"{where} has {has}, which cannot be guided; {_WORKS}. Set {_SETTING}.diffusion, or {_SETTING}: null")
    unet = files.settings("unet")
    channels = files.settings("vae").get("latent_channels", 4) if vae else 3
    reads, gives = (unet.get(name, channels) for name in ("in_channels", "out_channels"))
    if (reads, gives) != (channels, channels):
        raise ConfigError(
            f"{where}: its UNet reads {reads} channels and gives {gives}, where {channels} are "
            f"wanted: inpainting models and learned variances cannot be guided; {_WORKS}"
        )
    asked = [name for name in ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type") if unet.get(name) is not None]
    if unet.get("addition_embed_type") not in {None, "text_time"}:
        asked.append("addition_embed_type")
    if asked:
        raise ConfigError(f"{where}: its UNet wants conditions other than a prompt ({', '.join(asked)}); {_WORKS}")
    if attention and not _attends(unet, kind):
        raise ConfigError(
            f"{where}: the middle of its UNet has no self-attention, which self-attention guidance needs; set "
            f"{_SETTING}.self_attention: 0"
        )


def _attends(unet: dict[str, Any], kind: str | None) -> bool:
    """Whether the middle block has self-attention."""
    if kind == _PIXELS:
        return bool(unet.get("add_attention", True)) and unet.get("mid_block_type", "UNetMidBlock2D") == "UNetMidBlock2D"
    crossed = unet.get("mid_block_only_cross_attention")
    crossed = unet.get("only_cross_attention", False) is True if crossed is None else crossed
    return unet.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn" and not crossed


class Denoiser:
    """A loaded model. Gradients go through it to its input, never to its weights.

    Parameters
    ----------
    files
        A model that `check_denoiser` let pass.
    attention
        Remember what the middle's tokens received in `received_BN`.

    Raises
    ------
    ConfigError
        If the weights cannot be loaded, or its schedule has no cumulative alphas at its steps (flow matching, EDM).
    """

    def __init__(self, files: DiffusionFiles, settings: DiffusionConfig, device: str, *, attention: bool) -> None:
        is_latent = "vae" in files.parts
        pipeline = load_pipeline(files, settings, device, "AutoPipelineForText2Image" if is_latent else "DiffusionPipeline")
        self.scheduler: Any = pipeline.scheduler
        self.prediction = self.scheduler.config.get("prediction_type")
        # a continuous one tells its network a logarithm of the noise instead of a step
        has_alphas = hasattr(self.scheduler, "alphas_cumprod") and self.scheduler.config.get("timestep_type") != "continuous"
        if not has_alphas or self.prediction not in {"epsilon", "v_prediction", "sample"}:
            raise ConfigError(
                f"{_SETTING}: the schedule of {files.directory} ({type(self.scheduler).__name__}, {self.prediction}) has no "
                f"cumulative alphas and noise to guide by; {_WORKS}. Set {_SETTING}.diffusion, or {_SETTING}: null"
            )
        self.device = device
        self._unet = pipeline.unet.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self._vae = pipeline.vae.requires_grad_(False).eval() if is_latent else None
        if self._vae is not None:
            # float16 is too coarse for small gradients, and Stable Diffusion XL's decoder overflows in it (`force_upcast`)
            self._vae.to(memory_format=torch.channels_last)
            if settings.precision == "float16":
                self._vae.float()
        if device.startswith("cuda"):
            # less memory for more time: what is between blocks is computed again on the way back
            for network in (self._unet, self._vae):
                if network is not None and getattr(network, "_supports_gradient_checkpointing", False):
                    network.enable_gradient_checkpointing()
        self.shape = self._shape(settings.size)
        self._null = _null_prompt(pipeline, device, self.shape, settings.size) if is_latent else {}
        self._watch = _Watch(self._unet.mid_block.attentions[0]) if attention else None
        if settings.compile:
            self._unet.compile()

    def _shape(self, size: int | None) -> tuple[int, int, int]:
        """Channels and sides of a state."""
        config = self._unet.config
        shrinks = 1 if self._vae is None else 2 ** (len(self._vae.config.block_out_channels) - 1)
        sides = config.sample_size if isinstance(config.sample_size, list | tuple) else (config.sample_size,) * 2
        height, width = sides if size is None else (size // shrinks,) * 2
        return config.in_channels, height, width

    def alpha_bar(self, timestep: torch.Tensor) -> float:
        """Cumulative alpha at a step; between the steps of the training the noise's deviation is interpolated."""
        below = math.floor(float(timestep))
        steps = (below, math.ceil(float(timestep)))
        alphas = [max(float(self.scheduler.alphas_cumprod[step]), LEAST_ALPHA) for step in steps]
        first, last = (math.sqrt((1 - alpha) / alpha) for alpha in alphas)
        return 1 / (1 + (first + (float(timestep) - below) * (last - first)) ** 2)

    def said(self, state_BCHW: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return what the UNet says of a state of unit variance under the null prompt, float32 (B, C, H, W)."""
        size = len(state_BCHW)
        null = {
            name: {key: part.expand(size, *part.shape[1:]) for key, part in value.items()}
            if isinstance(value, dict)
            else value.expand(size, *value.shape[1:])
            for name, value in self._null.items()
        }
        output: torch.Tensor = self._unet(state_BCHW.to(self._unet.dtype), timestep, return_dict=False, **null)[0]
        return output.float()

    @property
    def received_BN(self) -> torch.Tensor:
        """Attention that the tokens of the middle received when `said` was last asked, mean over heads."""
        assert self._watch is not None
        return self._watch.received_BN

    def decoded(self, state_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the pictures of a state, float32 (B, 3, height, width), mostly in [0, 1]."""
        if self._vae is not None:
            config = self._vae.config
            mean, deviation = config.get("latents_mean"), config.get("latents_std")
            latent_BCHW = state_BCHW / config.scaling_factor + (config.get("shift_factor") or 0.0)
            if mean is not None and deviation is not None:  # of each channel
                mean_C11, deviation_C11 = (latent_BCHW.new_tensor(part)[:, None, None] for part in (mean, deviation))
                latent_BCHW = latent_BCHW * deviation_C11 + mean_C11
            state_BCHW = self._vae.decode(latent_BCHW.to(self._vae.dtype), return_dict=False)[0].float()
        return state_BCHW / 2 + 0.5


def _null_prompt(pipeline: Any, device: str, shape: tuple[int, int, int], size: int | None) -> dict[str, Any]:
    """Conditions of the UNet without a prompt, one row each."""
    with torch.no_grad():
        # no negative prompt at all: an empty text would be encoded where a model wants zeros
        encoded = pipeline.encode_prompt(
            prompt="", device=device, num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=None
        )
    null: dict[str, Any] = {"encoder_hidden_states": encoded[1].to(pipeline.unet.dtype)}
    if pipeline.unet.config.addition_embed_type == "text_time":
        height, width = (side * pipeline.vae_scale_factor for side in shape[1:])
        # as it was trained: the original's size, where the crop began, and the size aimed at
        times = torch.tensor([[height, width, 0, 0, height, width]], dtype=pipeline.unet.dtype, device=device)
        null["added_cond_kwargs"] = {"text_embeds": encoded[3].to(pipeline.unet.dtype), "time_ids": times}
    return null


class _Watch:
    """An attention processor that notes what each token receives, and attends as the one in its place did."""

    def __init__(self, block: Any) -> None:
        # a transformer's first self-attention (latent models), or the attention itself (pixel models)
        attention = block.transformer_blocks[0].attn1 if hasattr(block, "transformer_blocks") else block
        self._inner = attention.processor
        self.received_BN: torch.Tensor
        attention.set_processor(self)

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **others: Any) -> Any:
        with torch.no_grad():
            tokens_BNC = hidden_states if hidden_states.ndim == 3 else hidden_states.flatten(2).transpose(1, 2)
            if attn.group_norm is not None:
                tokens_BNC = attn.group_norm(tokens_BNC.transpose(1, 2)).transpose(1, 2)
            query, key = (attn.head_to_batch_dim(part(tokens_BNC)) for part in (attn.to_q, attn.to_k))
            share_BHNN = attn.get_attention_scores(query, key).float().unflatten(0, (len(tokens_BNC), -1))
            self.received_BN = share_BHNN.mean(1).sum(1)
        return self._inner(attn, hidden_states, *args, **others)
