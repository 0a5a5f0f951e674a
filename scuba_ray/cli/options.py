"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

EngineName = Annotated[Literal["ray", "local"], typer.Option("--engine", help="Ray actor pools, or this process alone.")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster to join (auto: the one on this machine).")]
BackboneModel = Annotated[
    str, typer.Option("--backbone", help="open_clip:MODEL/PRETRAINED, local-dir:PATH, phantom:NAME or module:Class.")
]
Device = Annotated[str, typer.Option(help="Where models compute: cpu, cuda or cuda:N.")]
Voxels = Annotated[int, typer.Option(help="Voxels of the simulated subject.")]
Images = Annotated[int, typer.Option(help="Pictures the subject sees.")]
Bank = Annotated[int, typer.Option(help="Pictures in the bank.")]
Seed = Annotated[int, typer.Option(min=0, help="Another seed is another subject, or another course of training.")]
