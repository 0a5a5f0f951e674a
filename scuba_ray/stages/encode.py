"""encode: pictures in, raw embeddings out. Stimuli become the table `embeddings`, a bank's pictures its shards.

Embeddings stay un-normalised (CLIPCap was trained on raw ones) and are stored as float16; `norm` is the L2 norm of the float32
embedding before that rounding. A picture that cannot be read or decoded is never embedded: it goes to quarantine with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.bank.shards import partition_of, shard_metadata
from scuba_ray.config import EncodeConfig, SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import DataError
from scuba_ray.protocols import Backbone, BadRow, Chunk, ImageSource, Resources, StageOutput, SubjectDataset
from scuba_ray.tables.columns import numbers, table_of, vectors
from scuba_ray.tables.schemas import bank_schema, embeddings_schema

READERS = 4
"""Threads that read and decode beside the network. Waiting for a disk or an object store, more than a core's worth pays."""


@dataclass(frozen=True, kw_only=True)
class EncodeStimuli:
    """The pictures one subject saw, embedded by one backbone."""

    subject: SubjectConfig
    backbone: Backbone
    settings: EncodeConfig
    resources: Resources
    device: str = "cpu"
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
        return {"backbone": self.backbone.fingerprint, "max_pixels": self.settings.max_pixels, **only}

    def setup(self) -> None:
        _ = self._dataset, self._network

    @cached_property
    def _dataset(self) -> SubjectDataset:
        return make_dataset(self.subject)

    @cached_property
    def _network(self) -> Backbone:
        return self.backbone.load(self.device)

    def read(self, chunk: Chunk) -> pa.Table:
        rows = self._dataset.stimuli().slice(chunk.start, chunk.stop - chunk.start)
        return rows if self.split is None else rows.filter(pc.equal(rows["split"], self.split))

    def __call__(self, rows: pa.Table) -> StageOutput:
        read = self._dataset.images().read
        keep, embedding, bad = embed(self._network, read, rows, "stimulus_id", self.settings)
        rows = rows.take(keep)
        columns = {
            "subject": self.subject.name,
            "backbone": self.backbone.name,
            "stimulus_id": rows["stimulus_id"],
            "split": rows["split"],
            **embedding,
        }
        return StageOutput(table_of(embeddings_schema(self.backbone.dim), columns), tuple(bad))


@dataclass(frozen=True, kw_only=True)
class EncodeBank:
    """The pictures a bank is made of, as shards sorted by (partition, image_id)."""

    images: str
    source: str
    backbone: Backbone
    settings: EncodeConfig
    resources: Resources
    device: str = "cpu"

    name = "bank"
    version = 1
    table = "bank"
    input_columns = ("image_id", "uri", "source")

    @property
    def input_name(self) -> str:
        return f"pictures of {self.images}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {"backbone": self.backbone.fingerprint, "max_pixels": self.settings.max_pixels}

    def setup(self) -> None:
        _ = self._pictures, self._network

    @cached_property
    def _pictures(self) -> ImageSource:
        return make_images(self.source, self.images)

    @cached_property
    def _network(self) -> Backbone:
        return self.backbone.load(self.device)

    def read(self, chunk: Chunk) -> pa.Table:
        return self._pictures.listing().slice(chunk.start, chunk.stop - chunk.start)

    def __call__(self, rows: pa.Table) -> StageOutput:
        read = self._pictures.read
        keep, embedding, bad = embed(self._network, read, rows, "image_id", self.settings)
        rows = rows.take(keep)
        columns = {
            "backbone": self.backbone.name,
            "image_id": rows["image_id"],
            "source": rows["source"],
            "uri": rows["uri"],
            "partition": np.array([partition_of(image) for image in rows["image_id"].to_pylist()], np.uint8),
            **embedding,
        }
        table = table_of(bank_schema(self.backbone.dim), columns)
        table = table.take(pc.sort_indices(table, [("partition", "ascending"), ("image_id", "ascending")]))
        return StageOutput(table.replace_schema_metadata(shard_metadata(self.backbone)), tuple(bad))


def embed(
    network: Backbone,
    read: Callable[[str], bytes],
    rows: pa.Table,
    key: str,
    settings: EncodeConfig,
) -> tuple[npt.NDArray[np.int64], dict[str, pa.Array], list[BadRow]]:
    """Embed the pictures of `rows` (columns uri and `key`) that can be read.

    Every network pass has exactly `settings.batch` pictures, the last one padded: a picture's embedding then does not depend on
    how many others share its chunk.

    Returns
    -------
    keep : array of shape (n,)
        Rows that were embedded.
    columns : dict
        `embedding` float16 (n, dim), raw, and `norm` float32 (n,).
    bad : list of BadRow
    """
    keep: list[int] = []
    bad: list[BadRow] = []
    embedded: list[Tensor] = []
    waiting: list[tuple[int, Tensor]] = []

    def name(row: int) -> str:
        return f"{key}={rows[key][row].as_py()}"

    def flush() -> None:
        embedded.append(network_pass(torch.stack([pixels for _, pixels in waiting]), network, settings.batch))
        keep.extend(row for row, _ in waiting)
        waiting.clear()

    for row, picture in enumerate(preprocessed(network, read, rows["uri"].to_pylist(), settings)):
        if isinstance(picture, DataError):
            bad.append(BadRow(name(row), str(picture)))
            continue
        waiting.append((row, picture))
        if len(waiting) == settings.batch:
            flush()
    if waiting:
        flush()
    raw_ND = torch.cat(embedded).numpy() if embedded else np.empty((0, network.dim), np.float32)
    with np.errstate(over="ignore"):
        half_ND = raw_ND.astype(np.float16)
    finite_N = np.isfinite(half_ND).all(axis=1)
    keep_N = np.array(keep, np.int64)
    bad += [BadRow(name(row), "its embedding is not finite") for row in keep_N[~finite_N].tolist()]
    columns = {"embedding": vectors(half_ND[finite_N]), "norm": numbers(np.linalg.norm(raw_ND[finite_N], axis=1))}
    return keep_N[finite_N], columns, bad


def preprocessed(
    network: Backbone, read: Callable[[str], bytes], uris: Sequence[str], settings: EncodeConfig
) -> Iterator[Tensor | DataError]:
    """Decoded, preprocessed pictures in order, two batches ahead of the network: 2 * batch * 3 * H * W * 4 bytes."""

    def one(uri: str) -> Tensor | DataError:
        try:
            return network.preprocess(decode_image(read(uri), settings.max_pixels))
        except DataError as error:
            return error

    with ThreadPoolExecutor(READERS) as readers:
        ahead: deque[Future[Tensor | DataError]] = deque()
        for uri in uris:
            ahead.append(readers.submit(one, uri))
            if len(ahead) >= 2 * settings.batch:
                yield ahead.popleft().result()
        for future in ahead:
            yield future.result()


def network_pass(pixels_B3HW: Tensor, network: Backbone, batch: int) -> Tensor:
    """One network pass of fixed shape, `batch` pictures; raw embeddings (B, dim) of `pixels_B3HW`, on the CPU."""
    padding = pixels_B3HW.new_zeros((batch - len(pixels_B3HW), *pixels_B3HW.shape[1:]))
    with torch.inference_mode():
        embedding_BD = network.embed_images(torch.cat([pixels_B3HW, padding]))
    return embedding_BD[: len(pixels_B3HW)].float().cpu()
