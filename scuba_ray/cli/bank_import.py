"""scuba bank import: embeddings that another program made."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from scuba_ray.cli.options import Address, BackboneModel, EngineName


def import_embeddings(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A .npy file, or a folder of embeddings.")],
    backbone: BackboneModel,
    out: Annotated[str, typer.Option(help="Folder of the bank, new or not.")],
    layout: Annotated[
        Literal["clip-retrieval", "published", "npy"] | None,
        typer.Option(help="How the folder is laid out; found out if left away."),
    ] = None,
    norm: Annotated[float | None, typer.Option(help="For unit vectors: one norm for all of them.")] = None,
    norms: Annotated[str | None, typer.Option(metavar="FILE", help="For unit vectors: .npy with a norm for each row.")] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="FILE", help="Layout npy: Parquet or CSV with image_id and uri of each row.")
    ] = None,
    collection: Annotated[str | None, typer.Option(metavar="NAME", help="Name in the bank, instead of the folder's.")] = None,
    prefix: Annotated[str, typer.Option(help="Put before every image id, where another collection has the same ones.")] = "",
    chunk: Annotated[int, typer.Option(min=1, help="Rows of a shard.")] = 32_768,
    engine: EngineName = "ray",
    address: Address = None,
) -> None:
    """Take embeddings made elsewhere into a bank: clip-retrieval's, the published pools', or plain arrays."""
    from scuba_ray.config import EngineConfig, backbone_config
    from scuba_ray.imports import import_bank
    from scuba_ray.terminal import Listener, say

    with Listener() as listen:
        bank = import_bank(
            path=path,
            backbone=backbone_config(backbone),
            out=out,
            layout=layout,
            norm=norm,
            norms=norms,
            metadata=metadata,
            collection=collection,
            prefix=prefix,
            chunk=chunk,
            engine=EngineConfig(name=engine, address=address),
            listen=listen,
        )
    say(f"the bank of {bank.backbone} has {bank.rows:,} pictures now")
    print(bank.location)
