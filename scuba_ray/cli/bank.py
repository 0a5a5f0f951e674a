"""scuba bank: banks of natural images, built and described."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from scuba_ray.cli import bank_index
from scuba_ray.cli.options import Address, BackboneModel, Device, EngineName

app = typer.Typer(help="Banks of natural images that voxels are projected on.", no_args_is_help=True)
app.command("index")(bank_index.index)

_SIMILAR = 0.97
"""Cosine from which on a picture is taken for a copy of a test image, unless the caller says otherwise."""
_SOURCE, _LEFT_OUT, _WORK = "The pictures", "What is left out", "How it is computed"


@app.command("build")
def build(
    images: Annotated[str, typer.Option(help="Folder or location of the pictures.", rich_help_panel=_SOURCE)],
    backbone: BackboneModel,
    out: Annotated[str, typer.Option(help="Folder of the bank, new or one to extend.")],
    source: Annotated[
        str, typer.Option(help="What they are kept in: folder, webdataset, parquet or module:Class.", rich_help_panel=_SOURCE)
    ] = "folder",
    collection: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Their name in the bank, instead of the last part of --images.", rich_help_panel=_SOURCE
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Put before every image id, where another collection has the same.", rich_help_panel=_SOURCE)
    ] = "",
    duplicates: Annotated[
        Literal["drop", "keep"], typer.Option(help="Pictures whose bytes came before.", rich_help_panel=_LEFT_OUT)
    ] = "drop",
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG.yaml", help="Leave out what is like a test image of this run's subjects.", rich_help_panel=_LEFT_OUT
        ),
    ] = None,
    similar: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help=f"With --subject: the cosine from which it is ({_SIMILAR} if not given).",
            rich_help_panel=_LEFT_OUT,
        ),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Pixels above which a picture is refused.", rich_help_panel=_LEFT_OUT)
    ] = 100_000_000,
    decode_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds that decoding one picture may take.", rich_help_panel=_LEFT_OUT)
    ] = 60.0,
    precision: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="Arithmetic of the network.", rich_help_panel=_WORK)
    ] = "float32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures per network pass.", rich_help_panel=_WORK)] = 128,
    chunk: Annotated[int, typer.Option(min=1, help="Pictures per shard.", rich_help_panel=_WORK)] = 1024,
    workers: Annotated[int, typer.Option(min=1, help="At most so many workers with the network.", rich_help_panel=_WORK)] = 2,
    decoders: Annotated[
        int, typer.Option(min=0, help="At most so many workers that only decode, for the others.", rich_help_panel=_WORK)
    ] = 0,
    engine: EngineName = "ray",
    address: Address = None,
    device: Device = "cpu",
    verify: Annotated[bool, typer.Option("--verify", help="Check the content of all shards that are there.")] = False,
) -> None:
    """Embed pictures with a backbone, once for any number of runs; goes on where it stopped, and takes up what is new."""
    from scuba_ray.banks import build_bank
    from scuba_ray.config import EncodeConfig, EngineConfig, backbone_config, load_config
    from scuba_ray.tables.store import RunFolder
    from scuba_ray.terminal import Listener, say, tell_warnings

    gpus = 1.0 if engine == "ray" and device != "cpu" else 0.0  # Ray gives each worker its GPU
    with Listener() as listen:
        built = build_bank(
            images=images,
            backbone=backbone_config(backbone),
            out=out,
            source=source,
            collection=collection,
            prefix=prefix,
            duplicates=duplicates,
            similar=_SIMILAR if subject is not None and similar is None else similar,
            subjects=[] if subject is None else [one for one in load_config(subject).subjects if one.path is not None],
            encode=EncodeConfig(
                max_pixels=max_pixels, decode_seconds=decode_seconds, precision=precision, batch=batch, chunk=chunk
            ),
            engine=EngineConfig(name=engine, address=address, max_workers=workers, decoders=decoders, gpus_per_worker=gpus),
            device=device,
            verify=verify,
            listen=listen,
        )
    tell_warnings(RunFolder(out))
    for name in built.unfinished:
        say(f"collection {name} is not embedded to the end", label="warning: ", style="bold yellow")
    say(f"the bank of {built.backbone} has {built.rows:,} pictures now")
    print(built.location)


@app.command("info")
def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Folder of a bank, or of a run that built one.")],
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")] = "table",
) -> None:
    """Print what is in a bank: its collections, shards, norms and index, and what was left out and why."""
    from scuba_ray.bank.info import info as describe

    banks = describe(path)
    if form == "json":
        print(json.dumps(banks, indent=1))
    else:
        print("\n\n".join("\n".join(_lines(bank)) for bank in banks))


def _lines(bank: dict[str, Any]) -> list[str]:
    """A bank's facts for people, a line each."""
    facts = {name.replace("_", " "): _said(value) for name, value in bank.items() if value not in (None, [], {})}
    width = max(map(len, facts))
    return [f"{name:<{width}}  {value}" for name, value in facts.items()]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
