"""scuba captioner: captioners for any backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scuba_ray.cli.options import BackboneModel, Device, Seed

app = typer.Typer(help="Captioners for any backbone.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `train` a command of its own: a group with one command would take its place."""


@app.command("train")
def train(
    pairs: Annotated[Path, typer.Option(help="CSV, JSON lines or Parquet: caption, and image (a path) or embedding.")],
    backbone: BackboneModel,
    out: Annotated[Path, typer.Option(help="Directory of the captioner.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 5000,
    batch: Annotated[int, typer.Option(min=1, help="Pairs in each step.")] = 256,
    language_model: Annotated[Path | None, typer.Option(help="A GPT-2 directory to fine-tune; none: a small one.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Train a CLIPCap-style captioner for any backbone; goes on where it stopped."""
    from scuba_ray.config import backbone_config
    from scuba_ray.datasets.pictures import decode_image
    from scuba_ray.models.captioner_pairs import PairSettings, train_on_pairs
    from scuba_ray.models.clip import make_backbone
    from scuba_ray.terminal import say

    print(
        train_on_pairs(
            pairs,
            make_backbone(backbone_config(backbone)),
            out,
            decode=decode_image,
            language_model=language_model,
            device=device,
            settings=PairSettings(steps=steps, batch=batch, seed=seed),
            report=say,
        )
    )
