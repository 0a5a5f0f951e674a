"""scuba bank: banks of natural images."""

from __future__ import annotations

from typing import Annotated

import typer

from scuba_ray.cli.options import Address, BackboneModel, Device, EngineName

app = typer.Typer(help="Banks of natural images that voxels are projected on.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `build` a command of its own: a group with one command would take its place."""


@app.command("build")
def build(
    images: Annotated[str, typer.Option(help="Folder (or location) of the pictures.")],
    backbone: BackboneModel,
    out: Annotated[str, typer.Option(help="Folder of the bank.")],
    source: Annotated[str, typer.Option(help="What the pictures are kept in.")] = "folder",
    engine: EngineName = "ray",
    address: Address = None,
    device: Device = "cpu",
) -> None:
    """Embed pictures with a backbone, once for any number of runs; goes on where it stopped."""
    from scuba_ray.banks import build_bank
    from scuba_ray.config import EngineConfig, backbone_config
    from scuba_ray.terminal import Listener, say

    with Listener() as listen:
        built = build_bank(
            images=images,
            source=source,
            backbone=backbone_config(backbone),
            out=out,
            engine=EngineConfig(name=engine, address=address),
            device=device,
            listen=listen,
        )
    say(f"{built.rows:,} pictures embedded with {built.backbone}")
    print(built.location)
