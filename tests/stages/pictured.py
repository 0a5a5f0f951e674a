"""A run folder in a world of words: every word is a direction, a picture is the sum of its words, a voxel wants some of them.

The text tower and the captioner of this world are exact, so that what a voxel should be called is known.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scuba_ray.bank.shards import BankFolder, partition_of, shard_metadata
from scuba_ray.protocols import CaptionBeam, Chunk
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import WHOLE_BANK, bank_schema, projections_schema, voxels_schema
from scuba_ray.tables.store import RunFolder

DIM = 48
WORDS = ("dog", "car", "apple", "house", "tree", "cloud", "boat", "chair", "lamp", "horse")
SUBJECT, NAME = "subj01", "words"
KEY = f"{SUBJECT}/{NAME}"


def direction(word: str) -> np.ndarray:
    """The unit vector of a word."""
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=DIM)
    return vector / np.linalg.norm(vector)


def blend(text: str) -> np.ndarray:
    """The embedding of a text: its words together, of length 1."""
    words = [word for word in text.lower().replace(".", "").replace(",", "").split() if word in WORDS]
    vector = sum((direction(word) for word in words), np.zeros(DIM))
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


@dataclass
class WordBackbone:
    """A backbone with a text tower."""

    name: str = NAME
    dim: int = DIM
    fingerprint: str = "0123456789abcdef"
    embedded: list[str] = field(default_factory=list)

    def load(self, device: str) -> WordBackbone:
        return self

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.embedded += texts
        return torch.tensor(np.array([blend(text) for text in texts]).reshape(-1, DIM), dtype=torch.float32) * 7


@dataclass
class WordCaptioner:
    """Names the words an embedding is near to, nearest first."""

    fingerprint: str = "fedcba9876543210"
    dim: int = DIM
    trained_for: str = "0123456789abcdef"

    def load(self, device: str) -> WordCaptioner:
        return self

    def check_backbone(self, backbone: Any) -> None: ...

    def captions(self, embeddings_VD: torch.Tensor, keys: Sequence[str] | None = None) -> list[list[CaptionBeam]]:
        unit_VD = torch.nn.functional.normalize(embeddings_VD.double(), dim=1).numpy()
        cosine_VW = unit_VD @ np.array([direction(word) for word in WORDS]).T
        near = [[WORDS[index] for index in np.argsort(-row) if row[index] > 0.45] for row in cosine_VW]
        return [[CaptionBeam(f"a {' and a '.join(words)}." if words else "nothing.", -1.0)] for words in near]


def write_world(folder: Path, *, voxels: Sequence[str], copies: int = 6, shard: int = 20, nearest: int = 16) -> BankFolder:
    """Write bank, voxels and projections: pictures of each word and of each two neighbouring words, a voxel per wanted text.

    A voxel's projections have a row for partition 0, too, with other pictures, which nobody should read.
    """
    run = RunFolder(str(folder))
    rng = np.random.default_rng(0)
    shown = [*WORDS, *(f"{one} {two}" for one, two in itertools.pairwise(WORDS))] * copies
    unit_KD = np.array([blend(text) for text in shown]) + 0.02 * rng.normal(size=(len(shown), DIM))
    raw_KD = (unit_KD / np.linalg.norm(unit_KD, axis=1, keepdims=True) * rng.uniform(8, 12, (len(shown), 1))).astype(np.float16)
    ids = [f"{index:03d} {text}" for index, text in enumerate(shown)]
    _write_bank(run, ids, raw_KD, shard)
    weight_VD = np.array([blend(text) for text in voxels]).astype(np.float32) * 0.3
    columns = {
        "subject": SUBJECT,
        "backbone": NAME,
        "voxel_id": np.arange(len(voxels)) + 10,
        "status": "ok",
        "weight": vectors(weight_VD),
    }
    _write(run, "voxels", KEY, table_of(voxels_schema(DIM), columns))
    unit_KD = raw_KD / np.linalg.norm(raw_KD.astype(np.float32), axis=1, keepdims=True)
    cos_VK = weight_VD @ unit_KD.T / np.linalg.norm(weight_VD, axis=1, keepdims=True)
    order_VK = np.argsort(-cos_VK, axis=1)[:, :nearest]
    rows = []
    for voxel, order in enumerate(order_VK):
        key = {"subject": SUBJECT, "backbone": NAME, "voxel_id": voxel + 10}
        near = {"nearest_ids": [ids[one] for one in order], "nearest_cos": cos_VK[voxel, order].tolist()}
        far = {"nearest_ids": [ids[-1 - voxel]], "nearest_cos": [0.0]}
        rows += [{**key, "partition": 0, **far}, {**key, "partition": WHOLE_BANK, **near}]
    _write(run, "projections", KEY, pa.Table.from_pylist(rows, projections_schema(DIM)))
    return BankFolder(str(folder), NAME, (NAME,))


def _write(run: RunFolder, table: str, key: str, rows: pa.Table) -> None:
    unit = run.begin(step=table, table=table, key=key, fingerprint="a" * 64)
    whole = [Chunk(0, 0, rows.num_rows)]
    unit.write(whole[0], rows)
    run.finish(unit, whole)


def _write_bank(run: RunFolder, ids: list[str], raw_KD: np.ndarray, shard: int) -> None:
    unit = run.begin(step="bank", table="bank", key=NAME, fingerprint="b" * 64)
    chunks = []
    for index, start in enumerate(range(0, len(ids), shard)):
        some = slice(start, start + shard)
        columns = {
            "backbone": NAME,
            "image_id": ids[some],
            "embedding": vectors(raw_KD[some]),
            "norm": numbers(np.linalg.norm(raw_KD[some].astype(np.float32), axis=1)),
            "source": "pictures",
            "uri": [f"{one}.png" for one in ids[some]],
            "partition": np.array([partition_of(one) for one in ids[some]], np.uint8),
        }
        chunks.append(Chunk(index, start, min(start + shard, len(ids))))
        stated = shard_metadata(WordBackbone())  # type: ignore[arg-type]
        unit.write(chunks[-1], table_of(bank_schema(DIM), columns).replace_schema_metadata(stated))
    run.finish(unit, chunks)
