"""describe: the voxels' nearest pictures in words, each once, by the captioner on its embedding or by a model that sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch

from scuba_ray.config import DescribeConfig
from scuba_ray.datasets import make_images
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import DataError
from scuba_ray.models.image_to_text import ImageToText
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import BadRow, Captioner, Chunk, ImageSource, Resources, StageOutput
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.schemas import DESCRIPTIONS
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class _Describe:
    """What both describers share: the nearest pictures of one backbone's bank, put into words by a model of some name."""

    backbone: str
    model: str
    """Value of the key column `model`."""
    run: RunFolder
    resources: Resources
    device: str = "cpu"

    name = "describe"
    version = 3
    table = "descriptions"
    input_columns: ClassVar[tuple[str, ...]]
    input_name = "table nearest_pictures"

    def read(self, chunk: Chunk) -> pa.Table:
        return self.run.slice("nearest_pictures", self.backbone, chunk.start, chunk.stop, columns=self.input_columns)


@dataclass(frozen=True, kw_only=True)
class DescribeByCaptioner(_Describe):
    """What the run's captioner says of each nearest picture, on the picture's own raw embedding."""

    captioner: Captioner
    decoding: Mapping[str, Any]
    """How it decodes, for the fingerprint: that of the stage `Caption`."""

    input_columns = ("image_id", "embedding")

    def fingerprint(self) -> Mapping[str, Any]:
        return {"captioner": self.captioner.fingerprint, **self.decoding}

    def setup(self) -> None:
        _ = self._writer

    @cached_property
    def _writer(self) -> Captioner:
        return self.captioner.load(self.device)

    def __call__(self, rows: pa.Table) -> StageOutput:
        said = self._writer.captions(torch.tensor(matrix(rows["embedding"])).float())
        return StageOutput(_table(self.backbone, self.model, rows["image_id"], [beams[0].text for beams in said]))


@dataclass(frozen=True, kw_only=True)
class DescribeByModel(_Describe):
    """What an image-to-text model says of each nearest picture. A picture that is gone or cannot be decoded is quarantined."""

    describer: ImageToText
    settings: DescribeConfig
    max_pixels: int
    """Pixels above which a picture is refused."""

    input_columns = ("image_id", "uri")

    def fingerprint(self) -> Mapping[str, Any]:
        asked = self.settings.model_dump(mode="json", include={"prompt", "max_tokens"})
        return {"describer": self.describer.fingerprint, "max_pixels": self.max_pixels, **asked}

    def setup(self) -> None:
        _ = self._writer, self._pictures

    @cached_property
    def _writer(self) -> ImageToText:
        return self.describer.load(self.device)

    @cached_property
    def _pictures(self) -> ImageSource:
        assert self.settings.images is not None, "whoever made the stage has said where the pictures are"
        return make_images(self.settings.source, self.settings.images)

    def __call__(self, rows: pa.Table) -> StageOutput:
        ids, said, bad = [], [], []
        batch = self.settings.batch  # decoded pictures in memory at once
        for start in range(0, rows.num_rows, batch):
            pictures = []
            for row in rows.slice(start, batch).to_pylist():
                try:
                    pictures.append(decode_image(self._read(row["uri"]), self.max_pixels))
                    ids.append(row["image_id"])
                except DataError as error:
                    bad.append(BadRow(f"image_id={row['image_id']}", str(error)))
            said += self._writer.describe(pictures)
        return StageOutput(_table(self.backbone, self.model, ids, said), tuple(bad))

    def _read(self, uri: str | None) -> bytes:
        if uri is None:
            raise DataError("the bank does not say where the picture is (column uri)")
        return self._pictures.read(uri)


def describer_name(settings: DescribeConfig, captioner: str) -> str:
    """Value of the key column `model`: the captioner's or the model's name, of a directory the last part."""
    model = settings.model or captioner
    return Path(model).name if Path(model).is_dir() else model


def _table(backbone: str, model: str, ids: Sequence[str] | pa.ChunkedArray, said: list[str]) -> pa.Table:
    nouns = [nouns_of(text) for text in said]
    return table_of(DESCRIPTIONS, {"backbone": backbone, "model": model, "image_id": ids, "caption": said, "nouns": nouns})
