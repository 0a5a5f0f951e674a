"""Train the phantom's backbones: small CLIP models on rendered scenes, a new batch every step.

    python -m scuba_ray.phantom.train_clip --model clip --out scuba_ray/phantom/weights/clip --minutes 6 --device cuda
    python -m scuba_ray.phantom.train_clip --model judge --out scuba_ray/phantom/weights/judge --minutes 6 --device cuda

`clip` is a ModifiedResNet, the backbone of the demo; `judge` a vision transformer from another seed, which scores what the first
one made. Symmetric contrastive loss (CLIP, arXiv 2103.00020, fig. 3), but two captions of a batch that read the same are no
negatives of each other. The rate is decayed over the steps that fit the minutes given (measured on the first ones); training
resumes from `--checkpoint` and writes an open_clip directory at the end, with a model card that holds its scores.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from scuba_ray.phantom.clip_scores import CONTEXT, MEAN, STD, score_clip
from scuba_ray.phantom.phrases import PhraseTable, clip_ids, mixed_captions, phrase_table, train_tokenizer
from scuba_ray.phantom.scenes import SIDE, Drawings, caption_order, load_drawings, render, sample_drawings, sample_scenes
from scuba_ray.phantom.seeds import TRAINING_SEED

EMBED = 256
TEXT = {"context_length": CONTEXT, "vocab_size": 2048, "width": 128, "heads": 4, "layers": 3}
VISION: dict[str, dict[str, Any]] = {
    "clip": {"image_size": SIDE, "layers": [1, 2, 2, 2], "width": 20, "head_width": 32},
    "judge": {"image_size": SIDE, "patch_size": 8, "width": 128, "layers": 5, "head_width": 32},
}
SEED = {"clip": TRAINING_SEED, "judge": TRAINING_SEED + 1}
_TRIAL_STEPS = 40


def model_config(name: str) -> dict[str, Any]:
    """open_clip's `model_cfg` of the phantom backbone `name`."""
    return {"embed_dim": EMBED, "vision_cfg": VISION[name], "text_cfg": TEXT}


def contrastive_loss(image_BD: torch.Tensor, text_BD: torch.Tensor, scale: torch.Tensor, ids_BL: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss; pairs whose captions read the same leave each other's denominators."""
    logits = scale * F.normalize(image_BD, dim=-1) @ F.normalize(text_BD, dim=-1).T
    weights = torch.arange(1, ids_BL.shape[1] + 1, device=ids_BL.device).double().sqrt()
    code = (ids_BL.double() * weights).sum(1)
    same = (code[:, None] - code[None, :]).abs() < 1e-6
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@dataclass
class Batches:
    """Endless training pairs: standardised pictures and caption ids, drawn on the training device."""

    generator: torch.Generator
    drawings: Drawings
    table: PhraseTable
    tokenizer: Any
    size: int
    device: str

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch (B, 3, 64, 64) and its captions (B, L)."""
        which = sample_drawings(self.generator, self.size, self.drawings)
        scenes = sample_scenes(self.generator, which)
        shuffled = torch.rand(which.shape, generator=self.generator, device=which.device).argsort(1)
        order = caption_order(scenes).gather(1, shuffled)
        order = order.gather(1, (order < 0).to(torch.int8).argsort(dim=1, stable=True))
        ids = clip_ids(mixed_captions(self.generator, order, self.table), self.tokenizer, CONTEXT)
        pixels = (render(scenes, self.drawings, self.device).float() / 255 - MEAN) / STD
        return pixels.contiguous(memory_format=torch.channels_last), ids


def optimiser(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW; weights of two or more dimensions decay, gains, biases and the temperature do not."""
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and "positional" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or "positional" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def train(
    model: nn.Module,
    batches: Batches,
    *,
    minutes: float,
    rate: float,
    checkpoint: Path | None,
    report: Callable[[str], None],
) -> int:
    """Train until the planned steps are done; return their number. Resumes from `checkpoint` if it is there."""
    device = batches.device
    adam = optimiser(model, rate)
    step, total = 0, 0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        batches.generator.set_state(state["generator"].cpu())
        step, total = state["step"], state["total"]
        report(f"resumed at step {step} of {total}")
    model.train()
    begun = saved = time.perf_counter()
    running = torch.zeros((), device=device)
    while not total or step < total:
        warm = min(1.0, (step + 1) / 300)
        decay = 0.5 * (1 + math.cos(math.pi * step / total)) if total else 1.0
        for group in adam.param_groups:
            group["lr"] = rate * warm * max(decay, 0.01)
        pixels, ids = batches.draw()
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
            image, text = model.encode_image(pixels), model.encode_text(ids)  # type: ignore[operator]
        scale: torch.Tensor = model.logit_scale  # type: ignore[assignment]
        loss = contrastive_loss(image.float(), text.float(), scale.exp(), ids)
        adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        with torch.no_grad():
            scale.clamp_(0, math.log(100))
            running += 0.02 * (loss - running)
        step += 1
        if not total and step == _TRIAL_STEPS:
            float(running)  # waits for the device
            begun = time.perf_counter()
        if not total and step == 2 * _TRIAL_STEPS:
            float(running)
            each = (time.perf_counter() - begun) / _TRIAL_STEPS
            total = max(step + 1, step + int(minutes * 60 / each))
            report(f"{each * 1e3:.0f} ms a step, {total} steps")
        if step % 500 == 0:
            report(f"step {step}/{total} loss {float(running):.3f} scale {float(scale.exp()):.1f}")
        if checkpoint is not None and time.perf_counter() - saved > 60:
            saved = time.perf_counter()
            save_checkpoint(checkpoint, model, adam, batches, step=step, total=total)
    return step


def save_checkpoint(
    path: Path, model: nn.Module, adam: torch.optim.Optimizer, batches: Batches, *, step: int, total: int
) -> None:
    """Write all that resuming needs, atomically."""
    state = {"model": model.state_dict(), "adam": adam.state_dict(), "generator": batches.generator.get_state()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({**state, "step": step, "total": total}, partial)
    partial.replace(path)


def main() -> None:
    """Train one backbone and write its directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(VISION), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    from scuba_ray.models.clip_export import write_open_clip_directory

    torch.backends.cudnn.benchmark = True
    torch.manual_seed(SEED[arguments.model])
    drawings = load_drawings().to(arguments.device)
    tokenizer = train_tokenizer(drawings)
    model = CLIP(EMBED, CLIPVisionCfg(**VISION[arguments.model]), CLIPTextCfg(**TEXT))
    model = model.to(arguments.device, memory_format=torch.channels_last)
    generator = torch.Generator(arguments.device).manual_seed(SEED[arguments.model])
    table = phrase_table(drawings, tokenizer, arguments.device)
    batches = Batches(generator, drawings, table, tokenizer, arguments.batch, arguments.device)
    steps = train(
        model,
        batches,
        minutes=arguments.minutes,
        rate=arguments.rate,
        checkpoint=arguments.checkpoint,
        report=lambda line: print(f"[{arguments.model}] {line}", flush=True),
    )
    model.half().float().eval()  # what the directory holds is what is scored
    scores = score_clip(model, drawings, tokenizer, arguments.device)
    print(f"[{arguments.model}] {scores}", flush=True)
    write_open_clip_directory(
        arguments.out,
        model_config=model_config(arguments.model),
        preprocess={"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
        state_dict={key: value.cpu() for key, value in model.state_dict().items()},
        tokenizer=tokenizer,
    )
    card = model_card(arguments.model, steps, arguments.batch, scores)
    (arguments.out / "README.md").write_text(card, encoding="utf-8")


def model_card(name: str, steps: int, batch: int, scores: dict[str, float]) -> str:
    """The README of a trained directory: data, steps, scores."""
    what = "ModifiedResNet" if name == "clip" else "vision transformer"
    rows = "\n".join(f"| {key} | {value:.3f} |" for key, value in scores.items())
    return (
        f"# Phantom backbone `{name}`\n\nA small CLIP ({what}, 64 px, {EMBED}-d embedding) trained from scratch by\n"
        "`python -m scuba_ray.phantom.train_clip` on rendered scenes of emoji drawings (Noto Emoji, Twemoji), captioned by\n"
        f"published names, keywords and kinds. {steps} steps of {batch} new scenes each; seeds in `phantom/seeds.py`.\n\n"
        "Scores on scenes from unseen seeds (definitions in `phantom/clip_scores.py`):\n\n"
        f"| score | value |\n|---|---|\n{rows}\n\nIt knows drawings, nothing else: do not use it on photographs.\n"
    )


if __name__ == "__main__":
    main()
