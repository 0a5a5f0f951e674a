"""Train the phantom's captioner on the phantom's backbone: scenes are rendered, embedded and named on the fly, none twice.

    python -m scuba_ray.phantom.train_captioner --out scuba_ray/phantom/weights/captioner --steps 8000 --device cuda

The training itself is the general one (`models/captioner_training.py`, also behind `scuba captioner train`); here is only where
its pairs come from. A scene's caption names its drawings, largest first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from scuba_ray.models.caption_text import PAD, stop_token, train_caption_tokenizer
from scuba_ray.models.captioner_training import Batches, TrainingSettings, small_gpt2, train_captioner
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.models.clipcap import PrefixCaptioner
from scuba_ray.phantom.phrases import VOCABULARY, compact
from scuba_ray.phantom.scenes import (
    Drawings,
    caption_order,
    load_drawings,
    name_captions,
    render,
    sample_drawings,
    sample_scenes,
)
from scuba_ray.phantom.seeds import HELD_OUT, TRAINING_SEED

MAX_TOKENS = 24
_FIRST_SEED = TRAINING_SEED + 1000
"""Step `n` draws its scenes from seed `_FIRST_SEED + n`, so that a resumed training sees what an unbroken one would."""


def embed_scenes(backbone: OpenClipBackbone, pixels_B3HW: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Raw embeddings (B, D) of rendered scenes; `like` holds the backbone's mean and standard deviation, (2, 3, 1, 1)."""
    mean, std = like
    return backbone.embed_images((pixels_B3HW.float() / 255 - mean) / std)


def standardisation(backbone: OpenClipBackbone, device: str) -> torch.Tensor:
    """Mean and standard deviation of the backbone's preprocessing, read off what it makes of black and white."""
    from PIL import Image

    black, white = (backbone.preprocess(Image.new("RGB", (64, 64), colour)).mean((1, 2)) for colour in ("black", "white"))
    std = 1 / (white - black)
    return torch.stack([-black * std, std])[:, :, None, None].to(device)


def name_table(drawings: Drawings, tokenizer: Any, device: str) -> torch.Tensor:
    """Token ids of ` and NAME` after those of `NAME` for all drawings, and a last empty row: (2 N + 1, L), -1 padded."""
    phrases = [*drawings.names, *(f" and {name}" for name in drawings.names)]
    rows = tokenizer(phrases, add_special_tokens=False)["input_ids"]
    table = torch.full((len(rows) + 1, max(map(len, rows))), -1)
    for row, ids in enumerate(rows):
        table[row, : len(ids)] = torch.tensor(ids)
    return table.to(device)


def caption_ids(order_BO: torch.Tensor, table: torch.Tensor, count: int, stop: int) -> torch.Tensor:
    """Ids (B, MAX_TOKENS) of captions that name the drawings in order, the stop token, then PAD."""
    nothing = len(table) - 1
    first = torch.where(order_BO[:, 0] >= 0, order_BO[:, 0], nothing)
    rest = torch.where(order_BO[:, 1:] >= 0, order_BO[:, 1:] + count, nothing)
    body = compact(torch.cat([table[row] for row in (first, *rest.unbind(1))], dim=1))[:, : MAX_TOKENS - 1]
    ids = torch.full((len(body), MAX_TOKENS), PAD, device=body.device)
    ids[:, : body.shape[1]] = torch.where(body >= 0, body, PAD)
    ids[torch.arange(len(ids), device=ids.device), (body >= 0).sum(1)] = stop
    return ids


def scene_pairs(backbone: OpenClipBackbone, drawings: Drawings, tokenizer: Any, *, batch: int, device: str) -> Batches:
    """Endless (embeddings, caption ids) from a given step on."""
    table, stop = name_table(drawings, tokenizer, device), stop_token(tokenizer, ".")
    like = standardisation(backbone, device)

    def pairs(first_step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        step = first_step
        while True:
            generator = torch.Generator(device).manual_seed(_FIRST_SEED + step)
            scenes = sample_scenes(generator, sample_drawings(generator, batch, drawings))
            embedding_BD = embed_scenes(backbone, render(scenes, drawings, device), like).clone()
            yield embedding_BD, caption_ids(caption_order(scenes), table, len(drawings), stop)
            step += 1

    return pairs


def score_captioner(
    captioner: PrefixCaptioner, backbone: OpenClipBackbone, drawings: Drawings, device: str, *, scenes: int = 400, seed: int = 1
) -> dict[str, float]:
    """How well held-out scenes are named: `scenes` of each sort, from place `seed` of the held-out seeds.

    Returns
    -------
    scores : dict
        For scenes of one, two and three drawings, the share whose caption names at least one of them exactly, the share of
        drawings named, and over the usual mixture of scenes the share with at least one.
    """
    generator = torch.Generator(device).manual_seed(HELD_OUT[seed])
    like = standardisation(backbone, device)
    scores: dict[str, float] = {}
    for label, shares in {"1": (1.0, 0, 0), "2": (0, 1.0, 0), "3": (0, 0, 1.0), "any": (0.35, 0.40, 0.25)}.items():
        drawn = sample_scenes(generator, sample_drawings(generator, scenes, drawings, share_of_counts=shares))
        embeddings = embed_scenes(backbone, render(drawn, drawings, device), like)
        texts = [beams[0].text.rstrip(". ") for beams in captioner.captions(embeddings)]
        said = [set(text.split(" and ")) for text in texts]
        truth = [set(caption.split(" and ")) for caption in name_captions(drawn, drawings)]
        scores[f"{label}: one named"] = sum(bool(s & t) for s, t in zip(said, truth, strict=True)) / len(truth)
        scores[f"{label}: share named"] = sum(len(s & t) for s, t in zip(said, truth, strict=True)) / sum(map(len, truth))
    return scores


def main() -> None:
    """Train the captioner and write its directory and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    drawings = load_drawings().to(arguments.device)
    backbone = OpenClipBackbone(name="clip", model="phantom:clip").load(arguments.device)
    corpus = [f"{name} and {other}" for name, other in zip(drawings.names, reversed(drawings.names), strict=True)]
    tokenizer = train_caption_tokenizer(corpus, VOCABULARY)
    settings = TrainingSettings(
        dim=backbone.dim,
        trained_for=backbone.fingerprint,
        backbone=backbone.name,
        steps=arguments.steps,
        prefix_length=6,
        max_tokens=MAX_TOKENS,
        learning_rate=arguments.rate,
        warmup=min(300, arguments.steps),
        seed=TRAINING_SEED,
    )
    train_captioner(
        scene_pairs(backbone, drawings, tokenizer, batch=arguments.batch, device=arguments.device),
        settings,
        tokenizer=tokenizer,
        language_model=small_gpt2(tokenizer, n_embd=160, n_layer=4, n_head=5),
        out=arguments.out,
        device=arguments.device,
        report=lambda step, loss: print(f"step {step}/{arguments.steps} loss {loss:.4f}", flush=True),
        report_every=250,
    )
    captioner = PrefixCaptioner(str(arguments.out)).load(arguments.device)
    scores = score_captioner(captioner, backbone, drawings, arguments.device)
    print(scores)
    rows = "\n".join(f"| {key} | {value:.3f} |" for key, value in scores.items())
    card = (
        "# Phantom captioner\n\nA CLIPCap-style prefix captioner (MLP prefix of 6 vectors, GPT-2 of 4 layers, 160 wide) for the\n"
        f"phantom backbone `clip` (fingerprint {backbone.fingerprint}), trained by\n"
        "`python -m scuba_ray.phantom.train_captioner`:\n"
        f"{arguments.steps} steps of {arguments.batch} new scenes, captions that name the drawings, largest first.\n\n"
        "Held-out scenes of 1, 2, 3 drawings and of any number (`score_captioner`): share of scenes with at least one drawing\n"
        f"named exactly, and share of drawings named exactly.\n\n| score | value |\n|---|---|\n{rows}\n"
    )
    (arguments.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
