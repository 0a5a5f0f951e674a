"""scuba phantom: a simulated subject as files."""

from __future__ import annotations

from typing import Annotated

import typer

from scuba_ray.cli.options import Bank, Images, Seed, Voxels

app = typer.Typer(help="A simulated subject whose truth is known.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `make` a command of its own: a group with one command would take its place."""


@app.command("make")
def make(
    out: Annotated[str, typer.Option(help="Folder to write to.")],
    seed: Seed = 0,
    voxels: Voxels = 2000,
    images: Images = 3000,
    bank: Bank = 20_000,
) -> None:
    """Write a simulated subject as files: pictures, responses, a bank and truth.parquet."""
    from scuba_ray.phantom.make import make_phantom
    from scuba_ray.terminal import Listener

    with Listener() as listen:
        progress = listen.counter("phantom", "pictures")
        print(make_phantom(out, seed=seed, voxels=voxels, images=images, bank=bank, progress=progress))
