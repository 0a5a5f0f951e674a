"""scuba bank index: an index over a bank's embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from scuba_ray.cli.options import BackboneModel

Kinds = Literal["auto", "flat", "ivf-flat", "ivf-pq"]


def index(
    bank: Annotated[str, typer.Argument(metavar="PATH", help="Folder of the bank.")],
    backbone: BackboneModel,
    kind: Annotated[
        Kinds, typer.Option(help="auto: flat (exact) for small banks, ivf-flat, ivf-pq above --memory-gib.")
    ] = "auto",
    memory_gib: Annotated[
        float, typer.Option(min=0.001, help="What auto, above 100,000 rows, and ivf-pq may take, in memory and on the disk.")
    ] = 16.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the training sample, of k-means and of the test queries.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads to build with.")] = 1,
) -> None:
    """Build the FAISS index of a bank: for nearest pictures, and for `project.method: index`. Says how well it finds them."""
    from scuba_ray.bank.index_build import build_index
    from scuba_ray.bank.shards import open_bank
    from scuba_ray.config import backbone_config
    from scuba_ray.models.clip import make_backbone
    from scuba_ray.terminal import say

    folder = open_bank(bank, make_backbone(backbone_config(backbone)))
    wanted = None if kind == "auto" else kind
    built = build_index(folder, kind=wanted, seed=seed, threads=threads, memory_gib=memory_gib)
    found = (
        "exact"
        if built.exact
        else (
            f"recall@10 {built.recall_10:.3f}, recall@64 {built.recall_64:.3f}, visiting {built.probes} of {built.lists} lists, "
            f"{built.scanned:.1%} of the rows ({built.queries} voxel-like queries)"
        )
    )
    say(f"{built.rows:,} rows of {built.dim} indexed ({built.kind}) in {built.seconds:.1f} s: {found}")
    print(folder.location)
