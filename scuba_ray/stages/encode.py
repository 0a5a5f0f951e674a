"""encode: pictures in, raw embeddings out. Stimuli become the table `embeddings`, a bank's pictures its shards.

Embeddings stay un-normalised (CLIPCap was trained on raw ones) and are stored as float16; `norm` is the L2 norm of the float32
embedding before that rounding. A picture that cannot be read or decoded is never embedded: it goes to quarantine with the reason.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.bank.shards import partition_of, shard_metadata
from scuba_ray.config import EncodeConfig, SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.datasets.decoder import Decoder
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.protocols import Backbone, Chunk, Pictures, Resources, StageOutput, SubjectDataset
from scuba_ray.stages.embedding import Embedded, Refused, embed
from scuba_ray.stages.reading import Pixels, decoded, decoder_for, is_prepared, prepared, ready
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.schemas import PARTITIONS, bank_schema, embeddings_schema
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class _Encode(ABC):
    """What both kinds of pictures share: a backbone, and rows that come with a uri or with their pixels already."""

    backbone: Backbone
    settings: EncodeConfig
    resources: Resources
    preparation: Resources = field(default_factory=Resources)
    device: str = "cpu"

    def fingerprint(self) -> Mapping[str, Any]:
        """Checkpoint, refusals, and the precision where it is not the plain one."""
        low = {} if self.settings.precision == "float32" else {"precision": self.settings.precision}
        return {"backbone": self.backbone.fingerprint, "max_pixels": self.settings.max_pixels, **low}

    def setup(self) -> None:
        _ = self._pictures, self._network

    def prepare(self, rows: pa.Table) -> pa.Table:
        return prepared(rows, self._decoded(rows))

    @cached_property
    @abstractmethod
    def _pictures(self) -> Pictures: ...

    @cached_property
    def _decoder(self) -> Decoder:
        return decoder_for(self.backbone, self.settings)

    @cached_property
    def _network(self) -> Backbone:
        return self.backbone.load(self.device)

    def _embedded(self, rows: pa.Table) -> Embedded:
        return embed(self._network, ready(rows) if is_prepared(rows) else self._decoded(rows), self.settings, self.device)

    def _decoded(self, rows: pa.Table) -> Iterator[Pixels | PictureError]:
        return decoded(self._pictures.read, rows["uri"].to_pylist(), self._decoder, ahead=2 * self.settings.batch)


@dataclass(frozen=True, kw_only=True)
class EncodeStimuli(_Encode):
    """The pictures one subject saw, embedded by one backbone."""

    subject: SubjectConfig
    split: str | None = None
    """Only the pictures of this split: a judge of captions sees test images alone."""

    name = "encode"
    version = 1
    table = "embeddings"
    input_columns = ("stimulus_id", "uri", "split")

    @property
    def input_name(self) -> str:
        return f"stimuli of {self.subject.name}"

    def fingerprint(self) -> Mapping[str, Any]:
        only = {} if self.split is None else {"split": self.split}
        return {**super().fingerprint(), **only}

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _pictures(self) -> Pictures:
        return self._dataset.images()

    def read(self, chunk: Chunk) -> pa.Table:
        rows = self._dataset.stimuli().slice(chunk.start, chunk.stop - chunk.start)
        return rows if self.split is None else rows.filter(pc.equal(rows["split"], self.split))

    def __call__(self, rows: pa.Table) -> StageOutput:
        embedded = self._embedded(rows)
        kept = rows.take(embedded.keep_N)
        columns = {
            "subject": self.subject.name,
            "backbone": self.backbone.name,
            "stimulus_id": kept["stimulus_id"],
            "split": kept["split"],
            **embedded.columns(),
        }
        return StageOutput(table_of(embeddings_schema(self.backbone.dim), columns), embedded.bad(rows, "stimulus_id"))


@dataclass(frozen=True, kw_only=True)
class EncodeBank(_Encode):
    """The admitted pictures of a collection, as shards sorted by (partition, image_id), each with its statistics.

    Pictures whose embedding has a cosine of `similar` or more with that of a test image are left out: `test` names the units of
    the table `embeddings` in `run` that test images are taken from.
    """

    run: RunFolder
    collection: str
    images: str
    source: str
    test: tuple[str, ...] = ()
    similar: float | None = None

    name = "bank"
    version = 2
    table = "bank"
    input_columns = ("image_id", "uri")

    @property
    def input_name(self) -> str:
        return f"admitted pictures of {self.collection}"

    def fingerprint(self) -> Mapping[str, Any]:
        similar = {} if self.similar is None else {"similar": self.similar}
        return {**super().fingerprint(), **similar}

    def setup(self) -> None:
        super().setup()
        _ = self._test

    @cached_property
    def _pictures(self) -> Pictures:
        return make_images(self.source, self.images)

    @cached_property
    def _test(self) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Ids and unit embeddings (T, D) of the test images."""
        names = ["stimulus_id", "split", "embedding"]
        tables = [self.run.read("embeddings", key=key, columns=names) for key in self.test]
        tables = [table.filter(pc.equal(table["split"], "test")) for table in tables]
        ids = [one for table in tables for one in table["stimulus_id"].to_pylist()]
        units = [_unit(matrix(table["embedding"])) for table in tables]
        return ids, np.concatenate([np.empty((0, self.backbone.dim), np.float32), *units])

    def read(self, chunk: Chunk) -> pa.Table:
        return self.run.slice("admitted", self.collection, chunk.start, chunk.stop, self.input_columns)

    def __call__(self, rows: pa.Table) -> StageOutput:
        embedded = self._embedded(rows)
        embedded = embedded.without(self._like_test_images(embedded))
        kept = rows.take(embedded.keep_N)
        columns = {
            "backbone": self.backbone.name,
            "image_id": kept["image_id"],
            "source": self.collection,
            "uri": kept["uri"],
            "partition": np.array([partition_of(image) for image in kept["image_id"].to_pylist()], np.uint8),
            **embedded.columns(),
        }
        table = table_of(bank_schema(self.backbone.dim), columns)
        table = table.take(pc.sort_indices(table, [("partition", "ascending"), ("image_id", "ascending")]))
        metadata = {**shard_metadata(self.backbone), b"statistics": self._statistics(rows, table, embedded)}
        return StageOutput(table.replace_schema_metadata(metadata), embedded.bad(rows, "image_id"))

    def _like_test_images(self, embedded: Embedded) -> list[Refused]:
        """Pictures that are, or are nearly, one of the test images."""
        ids, test_TD = self._test
        if self.similar is None or not ids or not len(embedded.keep_N):
            return []
        cosine_NT = _unit(embedded.half_ND) @ test_TD.T
        nearest_N = cosine_NT.argmax(axis=1)
        cosine_N = cosine_NT[np.arange(len(nearest_N)), nearest_N]
        return [
            Refused(int(row), "similar to a test image", f"similar to test image {ids[nearest]} (cosine {cosine:.2f})")
            for row, nearest, cosine in zip(embedded.keep_N, nearest_N, cosine_N, strict=True)
            if cosine >= self.similar
        ]

    def _statistics(self, rows: pa.Table, table: pa.Table, embedded: Embedded) -> bytes:
        """What a shard's metadata says of it, as JSON; `scuba bank info` adds it up."""
        some = len(embedded.norm_N) > 0
        norm_N = embedded.norm_N.astype(np.float64)
        statistics = {
            "pictures": rows.num_rows,
            "rows": table.num_rows,
            "bad": dict(sorted(Counter(one.kind for one in embedded.refused).items())),
            "norm_mean": float(f"{norm_N.mean():.6g}") if some else None,
            "norm_sd": float(f"{norm_N.std():.6g}") if some else None,
            "partitions": np.bincount(table["partition"].to_numpy(), minlength=PARTITIONS).tolist(),
            "precision": self.settings.precision,
        }
        return json.dumps(statistics).encode()


def _unit(embedding_ND: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Rows of length one, float32."""
    embedding_ND = embedding_ND.astype(np.float32)
    unit_ND: npt.NDArray[np.float32] = embedding_ND / np.linalg.norm(embedding_ND, axis=1, keepdims=True).clip(1e-30)
    return unit_ND
