"""Train the phantom's diffusion model as Stable Diffusion is trained: an autoencoder first, then a UNet in its latents.

    python -m scuba_ray.phantom.train_diffusion --out DIR --minutes 8 --device cuda
    python -m scuba_ray.phantom.train_diffusion --start DIR --out OTHER --minutes 60 --part decoder --device cpu

The UNet predicts the noise (Rombach et al. 2022, eq. 2) of scenes whose captions are mostly names, sometimes kinds, and one in
ten empty, for classifier-free guidance. `--start` goes on from a directory's weights; `--part decoder` then sharpens the decoder
of latents that stay as they are, so it can be trained beside `--part unet`. Ends with a diffusers directory. Needs torch,
diffusers, transformers and open_clip.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from scuba_ray.config import backbone_config
from scuba_ray.models.clip import make_backbone
from scuba_ray.phantom.clip_scores import CONTEXT, STD
from scuba_ray.phantom.diffusion_model import new_autoencoder, new_unet, save, text_encoder_of, tokenizer_of
from scuba_ray.phantom.phrases import clip_ids, mixed_captions, phrase_table
from scuba_ray.phantom.scenes import Drawings, caption_order, load_drawings, render, sample_drawings, sample_scenes
from scuba_ray.phantom.seeds import TRAINING_SEED

_VAE_SHARE = 0.35
"""Of the minutes given, those spent on the autoencoder."""
_EMPTY_CAPTIONS = 0.1
_SNR_GAMMA = 5.0
_KEEP_SECONDS = 600
"""A checkpoint is written this often."""

Average = Any
"""The running average of a network's late weights: what is kept of it."""


class Scenery:
    """Endless pictures in [-1, 1] and caption ids, drawn on the training device."""

    def __init__(self, device: str, seed: int) -> None:
        self.drawings: Drawings = load_drawings().to(device)
        self.device = device
        self._bpe: Any = tokenizer_of("clip").backend_tokenizer
        self._table = phrase_table(self.drawings, self._bpe, device)
        self._generator = torch.Generator(device).manual_seed(seed)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, 64, 64) and ids (B, L); one caption in ten is empty."""
        which = sample_drawings(self._generator, count, self.drawings, share_of_counts=(0.6, 0.3, 0.1))
        scenes = sample_scenes(self._generator, which)
        tokens = mixed_captions(self._generator, caption_order(scenes), self._table, keywords=0.1, kinds=0.2, openings=0.5)
        empty = torch.rand(count, generator=self._generator, device=self.device) < _EMPTY_CAPTIONS
        tokens[empty] = -1
        pixels = render(scenes, self.drawings, self.device).float() / 127.5 - 1
        return pixels, clip_ids(tokens, self._bpe, CONTEXT)


def timed_training(
    model: nn.Module,
    trained: list[nn.Parameter],
    loss_of: Callable[[], Tensor],
    *,
    minutes: float,
    rate: float,
    label: str,
    keep: Callable[[Average, int], None],
) -> tuple[Average, int]:
    """AdamW for `minutes` with a short warm-up and a linear decay by the clock; the average of late weights is returned.

    `keep` is given the average so far and the number of steps, every ten minutes.
    """
    adam = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    average = deepcopy(model).requires_grad_(False)
    begun, kept, step, running = time.perf_counter(), time.perf_counter(), 0, None
    while (done := (time.perf_counter() - begun) / (minutes * 60)) < 1:
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * max(1 - done, 0.02)
        loss = loss_of()
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        step += 1
        decay = min(0.999, step / (step + 100))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        running = float(loss.detach()) if running is None else 0.99 * running + 0.01 * float(loss.detach())
        if step % 200 == 0:
            print(f"[{label}] step {step} ({done:.0%}) loss {running:.4f}", flush=True)
        if time.perf_counter() - kept > _KEEP_SECONDS:
            keep(average, step)
            kept = time.perf_counter()
    return average.eval(), step


class Seen:
    """How different two pictures look to the phantom backbone: its first layers' features, each place brought to unit length.

    The independent judge's network has no part in this.
    """

    def __init__(self, device: str) -> None:
        backbone: Any = make_backbone(backbone_config("phantom:clip")).load(device)
        self._trunk = backbone._network.visual.float()

    def __call__(self, made_B3HW: Tensor, shown_B3HW: Tensor) -> Tensor:
        """Mean over layers of the squared distance of features (Zhang et al. 2018, eq. 1, with equal weights)."""
        total = made_B3HW.new_zeros(())
        made, shown = (0.5 * pixels / STD for pixels in (made_B3HW, shown_B3HW))
        parts = (self._stem, self._trunk.layer1, self._trunk.layer2, self._trunk.layer3)
        for part in parts:
            made, shown = part(made), part(shown)
            total = total + (F.normalize(made, dim=1, eps=1e-6) - F.normalize(shown, dim=1, eps=1e-6)).square().sum(1).mean()
        return total / len(parts)

    def _stem(self, pixels: Tensor) -> Tensor:
        trunk = self._trunk
        hidden = trunk.act1(trunk.bn1(trunk.conv1(pixels)))
        hidden = trunk.act2(trunk.bn2(trunk.conv2(hidden)))
        return trunk.avgpool(trunk.act3(trunk.bn3(trunk.conv3(hidden))))  # type: ignore[no-any-return]


def train_autoencoder(
    scenery: Scenery,
    model: AutoencoderKL,
    *,
    minutes: float,
    batch: int,
    decoder_only: bool,
    keep: Callable[[Average, int], None],
) -> tuple[AutoencoderKL, int]:
    """Mean absolute error of pixels and of their differences between neighbours (edges), how different the pictures look to the
    phantom backbone, and a slight pull to unit latents."""
    model = model.to(scenery.device, memory_format=torch.channels_last).train()
    seen = Seen(scenery.device)
    parts = [model.decoder, model.post_quant_conv] if decoder_only else [model]
    model.requires_grad_(False)
    trained = [weight.requires_grad_() for part in parts for weight in part.parameters()]
    kind = scenery.device.split(":")[0]

    def loss_of() -> Tensor:
        pixels, _ = scenery.draw(batch)
        with torch.autocast(kind, torch.bfloat16):
            with torch.set_grad_enabled(not decoder_only):
                posterior = model.encode(pixels).latent_dist
                latents = posterior.sample()
            made = model.decode(latents).sample
            unlike = seen(made, pixels)
        made = made.float()
        edges = F.l1_loss(made.diff(dim=2), pixels.diff(dim=2)) + F.l1_loss(made.diff(dim=3), pixels.diff(dim=3))
        coarse = F.l1_loss(F.avg_pool2d(made, 4), F.avg_pool2d(pixels, 4))
        loss: Tensor = F.l1_loss(made, pixels) + edges + coarse + 0.5 * unlike.float()
        return loss if decoder_only else loss + 1e-6 * posterior.kl().float().mean()

    rate = 5e-4 if decoder_only else 1e-3
    average, steps = timed_training(model, trained, loss_of, minutes=minutes, rate=rate, label="autoencoder", keep=keep)
    if not decoder_only:
        with torch.inference_mode():
            latents = torch.cat([average.encode(scenery.draw(512)[0]).latent_dist.mean for _ in range(8)])
            average.register_to_config(scaling_factor=float(1 / latents.std()))
    return average, steps


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion's."""
    return DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000, steps_offset=1
    )


def train_unet(
    scenery: Scenery,
    autoencoder: AutoencoderKL,
    encoder: CLIPTextModel,
    model: UNet2DConditionModel,
    *,
    minutes: float,
    batch: int,
    rate: float,
    keep: Callable[[Average, int], None],
) -> tuple[UNet2DConditionModel, int]:
    """Noise prediction with min-SNR weights (Hang et al. 2023), which spare a small network the easy steps."""
    schedule = noise_schedule()
    signal = schedule.alphas_cumprod.to(scenery.device)
    snr = signal / (1 - signal)
    weight = snr.clamp(max=_SNR_GAMMA) / snr
    model = model.to(scenery.device).train().requires_grad_()
    scaling = autoencoder.config.scaling_factor
    kind = scenery.device.split(":")[0]
    # on a CPU this small network is faster in float32, measured
    half = kind != "cpu"

    def loss_of() -> Tensor:
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
            pixels, ids = scenery.draw(batch)
            latents = autoencoder.encode(pixels).latent_dist.sample().float() * scaling
            text = encoder(ids)[0].float()
        noise = torch.randn_like(latents)
        when = torch.randint(1000, (batch,), device=latents.device)
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            predicted = model(schedule.add_noise(latents, noise, when), when, text).sample
        error = F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))
        loss: Tensor = (weight[when] * error).mean()
        return loss

    return timed_training(model, list(model.parameters()), loss_of, minutes=minutes, rate=rate, label="unet", keep=keep)


def main() -> None:
    """Train the networks and write the diffusers directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=512, help="pictures a step; the autoencoder takes half of them")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--start", type=Path, help="a diffusers directory to go on from")
    parser.add_argument("--part", choices=("both", "decoder", "unet"), default="both")
    parser.add_argument("--seed", type=int, default=TRAINING_SEED + 2, help="of the scenes; another one for each continuation")
    arguments = parser.parse_args()
    if arguments.part != "both" and arguments.start is None:
        parser.error("--part decoder and --part unet go on from a directory: give --start")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(arguments.seed)
    scenery = Scenery(arguments.device, arguments.seed)
    encoder = text_encoder_of("clip").to(arguments.device)
    vae, unet = new_autoencoder(), new_unet()
    if arguments.start is not None:
        vae = AutoencoderKL.from_pretrained(arguments.start / "vae").float()
        unet = UNet2DConditionModel.from_pretrained(arguments.start / "unet").float()
    vae, unet = vae.to(arguments.device), unet.to(arguments.device)

    def write(vae: AutoencoderKL, unet: UNet2DConditionModel, done: str) -> None:
        parts = {"vae": deepcopy(vae), "unet": deepcopy(unet), "encoder": deepcopy(encoder)}
        # beside it first: a training that is stopped while it writes leaves the checkpoint before
        beside = arguments.out.with_name(f"{arguments.out.name}.writing")
        save(beside, **parts, schedule=dict(noise_schedule().config))
        shutil.rmtree(arguments.out, ignore_errors=True)
        beside.rename(arguments.out)
        print(f"kept {arguments.out}: {done}", flush=True)

    share = {"both": _VAE_SHARE, "decoder": 1.0, "unet": 0.0}[arguments.part]
    done = ""
    if share > 0:
        vae, steps = train_autoencoder(
            scenery, vae, minutes=arguments.minutes * share, batch=arguments.batch // 2, decoder_only=arguments.part == "decoder",
            keep=lambda average, step: write(average, unet, f"{step} steps of the autoencoder"),
        )  # fmt: skip
        done = f"{steps} steps of {arguments.batch // 2} of the autoencoder, "
    if share < 1:
        frozen = vae.eval().requires_grad_(False)
        unet, steps = train_unet(
            scenery, frozen, encoder, unet, minutes=arguments.minutes * (1 - share), batch=arguments.batch,
            rate=1.5e-3 if arguments.start is None else 5e-4,
            keep=lambda average, step: write(frozen, average, f"{step} steps of the UNet"),
        )  # fmt: skip
        done += f"{steps} steps of {arguments.batch} of the UNet"
    write(vae, unet, done)


if __name__ == "__main__":
    main()
