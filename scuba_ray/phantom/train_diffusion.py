"""Train the phantom's diffusion model as Stable Diffusion is trained: an autoencoder first, then a UNet in its latents.

    python -m scuba_ray.phantom.train_diffusion --out scuba_ray/phantom/weights/diffusion --minutes 8 --device cuda

Pictures are 64 px scenes, latents 8 x 8 x 8. The text encoder is the phantom backbone's own text tower, converted to a
`CLIPTextModel`, and stays frozen. The UNet predicts the noise (Rombach et al. 2022, eq. 2) of scenes whose captions are mostly
names, sometimes kinds, and one in ten empty, for classifier-free guidance. Ends with a diffusers directory that
`DiffusionPipeline.from_pretrained` loads. Needs torch, diffusers, transformers and open_clip.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from scuba_ray.models.clip_export import END, PAD, START
from scuba_ray.models.files import packaged
from scuba_ray.phantom.clip_scores import CONTEXT
from scuba_ray.phantom.phrases import clip_ids, mixed_captions, phrase_table
from scuba_ray.phantom.scenes import Drawings, caption_order, load_drawings, render, sample_drawings, sample_scenes
from scuba_ray.phantom.seeds import TRAINING_SEED

LATENT = 8
_VAE_SHARE = 0.35
"""Of the minutes given, those spent on the autoencoder."""
_EMPTY_CAPTIONS = 0.1
_SNR_GAMMA = 5.0


def new_autoencoder() -> AutoencoderKL:
    """64 px pictures to 8 x 8 x 8 latents and back, 1.6 M weights."""
    return AutoencoderKL(
        3, 3, ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4, (24, 40, 64, 88),
        layers_per_block=1, latent_channels=LATENT, norm_num_groups=8, sample_size=64,
    )  # fmt: skip


def new_unet() -> UNet2DConditionModel:
    """Text-conditional UNet on 8 x 8 and 4 x 4, with cross-attention to the text at every depth."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=LATENT, out_channels=LATENT, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def text_encoder_of(backbone_name: str) -> CLIPTextModel:
    """The text tower of a phantom backbone as transformers' own class: the same weights, other names."""
    stored = load_file(packaged(backbone_name) / "open_clip_model.safetensors")
    source = {name: tensor.float() for name, tensor in stored.items()}
    width = source["token_embedding.weight"].shape[1]
    layers = len({name.split(".")[2] for name in source if name.startswith("transformer.resblocks.")})
    vocabulary = source["token_embedding.weight"].shape[0]
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=width // 32, max_position_embeddings=CONTEXT, hidden_act="gelu",
            pad_token_id=0, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        )
    )  # fmt: skip
    named = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    renamed = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    renamed["attn.out_proj"] = "self_attn.out_proj"
    for layer in range(layers):
        ours, theirs = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            for old, new in renamed.items():
                named[f"{theirs}{new}.{kind}"] = source[f"{ours}{old}.{kind}"]
            parts = source[f"{ours}attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                named[f"{theirs}self_attn.{name}_proj.{kind}"] = part
    prefix = "text_model." if any(name.startswith("text_model.") for name in encoder.state_dict()) else ""
    missing, unknown = encoder.load_state_dict({prefix + name: value for name, value in named.items()}, strict=False)
    assert not unknown and all(name.endswith("position_ids") for name in missing), (missing, unknown)
    return encoder.eval().requires_grad_(False)


class Scenery:
    """Endless pictures in [-1, 1] and caption ids, drawn on the training device."""

    def __init__(self, device: str, seed: int) -> None:
        self.drawings: Drawings = load_drawings().to(device)
        self.device = device
        directory = packaged("clip")
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(directory / "tokenizer.json"),
            model_max_length=CONTEXT,
            pad_token=PAD,
            bos_token=START,
            eos_token=END,
        )
        self._bpe: Any = self.tokenizer.backend_tokenizer
        self._table = phrase_table(self.drawings, self._bpe, device)
        self._generator = torch.Generator(device).manual_seed(seed)

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (B, 3, 64, 64) and ids (B, L); one caption in ten is empty."""
        which = sample_drawings(self._generator, count, self.drawings, share_of_counts=(0.6, 0.3, 0.1))
        scenes = sample_scenes(self._generator, which)
        tokens = mixed_captions(self._generator, caption_order(scenes), self._table, keywords=0.1, kinds=0.2, openings=0.5)
        empty = torch.rand(count, generator=self._generator, device=self.device) < _EMPTY_CAPTIONS
        tokens[empty] = -1
        pixels = render(scenes, self.drawings, self.device).float() / 127.5 - 1
        return pixels, clip_ids(tokens, self._bpe, CONTEXT)


def timed_training(
    model: Any, loss_of: Callable[[], torch.Tensor], *, minutes: float, rate: float, label: str
) -> tuple[Any, int]:
    """AdamW for `minutes` with a short warm-up and a linear decay by the clock; the average of late weights is returned."""
    adam = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    average = deepcopy(model).requires_grad_(False)
    begun, step, running = time.perf_counter(), 0, None
    while (done := (time.perf_counter() - begun) / (minutes * 60)) < 1:
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * max(1 - done, 0.02)
        loss = loss_of()
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        step += 1
        decay = min(0.999, step / (step + 100))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        if step % 200 == 0:
            value = float(loss.detach())
            running = value if running is None else 0.7 * running + 0.3 * value
            print(f"[{label}] step {step} ({done:.0%}) loss {running:.4f}", flush=True)
    return average.eval(), step


def train_autoencoder(scenery: Scenery, *, minutes: float, batch: int) -> tuple[AutoencoderKL, int]:
    """Mean absolute error of pixels and of their differences between neighbours (edges), and a slight pull to unit latents."""
    model = new_autoencoder().to(scenery.device, memory_format=torch.channels_last).train()

    def loss_of() -> torch.Tensor:
        pixels, _ = scenery.draw(batch)
        with torch.autocast(scenery.device.split(":")[0], torch.bfloat16):
            posterior = model.encode(pixels).latent_dist
            made = model.decode(posterior.sample()).sample
        made = made.float()
        edges = F.l1_loss(made.diff(dim=2), pixels.diff(dim=2)) + F.l1_loss(made.diff(dim=3), pixels.diff(dim=3))
        coarse = F.l1_loss(F.avg_pool2d(made, 4), F.avg_pool2d(pixels, 4))
        loss: torch.Tensor = F.l1_loss(made, pixels) + edges + coarse + 1e-6 * posterior.kl().float().mean()
        return loss

    trained, steps = timed_training(model, loss_of, minutes=minutes, rate=1e-3, label="autoencoder")
    with torch.inference_mode():
        latents = torch.cat([trained.encode(scenery.draw(512)[0]).latent_dist.mean for _ in range(8)])
        trained.register_to_config(scaling_factor=float(1 / latents.std()))
    return trained, steps


def train_unet(
    scenery: Scenery, autoencoder: AutoencoderKL, encoder: CLIPTextModel, *, minutes: float, batch: int
) -> tuple[UNet2DConditionModel, DDPMScheduler, int]:
    """Noise prediction with min-SNR weights (Hang et al. 2023), which spare a small network the easy steps."""
    schedule = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000, steps_offset=1
    )
    signal = schedule.alphas_cumprod.to(scenery.device)
    snr = signal / (1 - signal)
    weight = snr.clamp(max=_SNR_GAMMA) / snr
    model = new_unet().to(scenery.device).train()
    scaling = autoencoder.config.scaling_factor
    kind = scenery.device.split(":")[0]

    def loss_of() -> torch.Tensor:
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
            pixels, ids = scenery.draw(batch)
            latents = autoencoder.encode(pixels).latent_dist.sample().float() * scaling
            text = encoder(ids)[0]
        noise = torch.randn_like(latents)
        when = torch.randint(1000, (batch,), device=latents.device)
        with torch.autocast(kind, torch.bfloat16):
            predicted = model(schedule.add_noise(latents, noise, when), when, text).sample
        error = F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))
        loss: torch.Tensor = (weight[when] * error).mean()
        return loss

    trained, steps = timed_training(model, loss_of, minutes=minutes, rate=1.5e-3, label="unet")
    return trained, schedule, steps


def main() -> None:
    """Train both networks and write the diffusers directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(TRAINING_SEED + 2)
    scenery = Scenery(arguments.device, TRAINING_SEED + 2)
    encoder = text_encoder_of("clip").to(arguments.device)
    vae, vae_steps = train_autoencoder(scenery, minutes=arguments.minutes * _VAE_SHARE, batch=arguments.batch // 2)
    unet, schedule, steps = train_unet(scenery, vae, encoder, minutes=arguments.minutes * (1 - _VAE_SHARE), batch=arguments.batch)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(), text_encoder=encoder.half(), tokenizer=scenery.tokenizer, unet=unet.half(),
        scheduler=DPMSolverMultistepScheduler.from_config(schedule.config),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(arguments.out, safe_serialization=True)
    card = (
        "# Phantom diffusion model\n\nA small Stable Diffusion (64 px, 8 x 8 x 8 latents) trained from scratch by\n"
        "`python -m scuba_ray.phantom.train_diffusion` on rendered scenes of emoji drawings. Autoencoder: "
        f"{vae_steps} steps of {arguments.batch // 2};\nUNet: {steps} steps of {arguments.batch} new scenes. The text encoder is "
        "the phantom backbone `clip`'s own, frozen.\nIt draws emoji, nothing else.\n"
    )
    (arguments.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
