"""Synthetic banks on disk, as `scuba bank build` leaves them, for the benchmarks of projection."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import torch

from scuba_ray.bank.shards import BankFolder, partition_of, shard_metadata
from scuba_ray.config import ProjectConfig
from scuba_ray.core.projection import Projection, finish
from scuba_ray.core.tree import Forest
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.protocols import Chunk, Receipt, Resources
from scuba_ray.stages.bank_holding import Question
from scuba_ray.stages.project import Project
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import bank_schema
from scuba_ray.tables.store import RunFolder

KEY = "synthetic/images"
SHARD = 8192


def write_bank(folder: str, images: int, dim: int) -> None:
    """Gaussian embeddings of norm about 10, in shards of 8,192 rows sorted by partition."""
    run = RunFolder(folder)
    unit = run.begin(step="bank", table="bank", key=KEY, fingerprint="0" * 64)
    metadata = shard_metadata(SimpleNamespace(name="synthetic", fingerprint="0" * 16, dim=dim))  # type: ignore[arg-type]
    rng, receipts = np.random.default_rng(0), list[Receipt]()
    for index, start in enumerate(range(0, images, SHARD)):
        chunk = Chunk(index, start, min(start + SHARD, images))
        ids = np.array([f"image{row:09d}" for row in range(chunk.start, chunk.stop)])
        partition_N = np.array([partition_of(name) for name in ids], np.uint8)
        order_N = np.argsort(partition_N, kind="stable")
        embedding_ND = (rng.standard_normal((len(ids), dim), np.float32) * 10 / dim**0.5).astype(np.float16)
        columns = {
            "backbone": "synthetic",
            "image_id": ids[order_N].tolist(),
            "source": "synthetic",
            "embedding": vectors(embedding_ND),
            "norm": numbers(np.linalg.norm(embedding_ND.astype(np.float32), axis=1)),
            "partition": partition_N[order_N],
        }
        part = unit.write(chunk, table_of(bank_schema(dim), columns).replace_schema_metadata(metadata))
        receipts.append(Receipt(chunk, part.rows, 0, 0.0, part.bytes, part.sha256))
    run.finish(unit, [receipt.chunk for receipt in receipts], receipts)


def stage_at(folder: str, settings: Namespace) -> Project:
    """The stage that projects on a bank here, streaming it."""
    return Project(
        subject="s",
        backbone="synthetic",
        dim=settings.dim,
        run=RunFolder(folder),
        bank=BankFolder(folder, "synthetic", (KEY,)),
        settings=ProjectConfig(beta=settings.beta, tile=settings.tile, hold_gib=0.0),
        resources=Resources(),
    )


def project_from_disk(stage: Project, directions_VD: torch.Tensor) -> Projection:
    """All of the bank read, merged and finished, as a holder of all segments does it."""
    question = Question(np.arange(len(directions_VD)), directions_VD.numpy(), ())
    forest = Forest(stage.merge)
    for node, state in stage.hold(0, stage.segments).answer([question])[0].items():
        forest.add(node, state)
    return finish(forest.fold(), directions_VD)


def stored_bank(bank: BankFolder) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All of a bank in memory, sorted by partition: unit embeddings in float32, norms and partitions."""
    tile = next(bank.tiles(bank.rows))
    order = torch.from_numpy(tile.partition_K.copy()).argsort(stable=True)
    unit_KD, _ = unit_and_norm(torch.from_numpy(tile.embedding_KD.copy()))
    return unit_KD[order], torch.tensor(tile.norm_K)[order], torch.tensor(tile.partition_K)[order]


def directions(settings: Namespace) -> torch.Tensor:
    """Random unit vectors."""
    normal = torch.randn(settings.voxels, settings.dim, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(normal, dim=1)
