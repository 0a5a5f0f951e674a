"""What each endpoint asks of which deployment, and how answers become rows. Nothing here knows of HTTP.

For voxels of the run the answer is the run's own rows; for weights that were sent it is computed now, by the same code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from ray.serve.handle import DeploymentHandle

from scuba_ray.config import ServeConfig
from scuba_ray.core.seeds import image_seed
from scuba_ray.datasets.pictures import png_of
from scuba_ray.errors import ConfigError
from scuba_ray.models.nouns import nouns_of
from scuba_ray.protocols import ImageRequest, MadeImage
from scuba_ray.report.show import best_first
from scuba_ray.serve.catalogue import Catalogue
from scuba_ray.serve.schemas import (
    CaptionRequest,
    NearestRequest,
    PredictRequest,
    ProjectRequest,
    QueryRequest,
    SynthesizeRequest,
)
from scuba_ray.serve.sent_pictures import SentPictures
from scuba_ray.tables.columns import matrix, table_of
from scuba_ray.tables.schemas import CAPTIONS, WHOLE_BANK, projections_schema
from scuba_ray.tables.ways import METHOD

_COLUMNS = 10
"""Of a row of ranked voxels, towards `limits.values`."""
_ROW = pa.field("row", pa.int32())
_NEAR = ["query", "rank", "image_id", "uri", "cosine"]
_SYNTHESIZED = pa.schema(
    [
        _ROW,
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("truncated", pa.bool_()),
        ("png", pa.binary()),
    ]
)


class Questions:
    """Asks deployments, by their handles, on behalf of requests; every method returns a table of rows."""

    def __init__(self, settings: ServeConfig, catalogue: Catalogue, handles: Mapping[str, DeploymentHandle], dim: int) -> None:
        self._limits, self._catalogue, self._ask, self._dim = settings.limits, catalogue, handles, dim
        self._pictures = SentPictures(settings)

    def _subject(self, subject: str) -> DeploymentHandle:
        return self._ask["subjects"].options(multiplexed_model_id=subject)

    async def predict(self, asked: PredictRequest) -> pa.Table:
        """Predicted responses of voxels to pictures."""
        subject = self._catalogue.subject_of(asked.subject, asked.voxels)
        voxels = len(self._catalogue.ids[subject] if asked.voxels is None else asked.voxels)
        self._check_values(len(asked.images) * voxels, f"{len(asked.images):,} images times {voxels:,} voxels")
        found: list[Any] = await asyncio.to_thread(self._pictures.read, [(one.data, one.uri) for one in asked.images])
        there = [place for place, one in enumerate(found) if isinstance(one, bytes)]
        if there:
            embedded = await self._ask["encoder"].images.remote([found[place] for place in there])
            for place, embedding in zip(there, embedded, strict=True):
                found[place] = embedding
        table: pa.Table = await self._subject(subject).predict.remote(found, asked.voxels)
        return table

    async def project(self, asked: ProjectRequest) -> pa.Table:
        """Projections of voxels, or of weights."""
        if asked.voxels is None:
            return await self._projected(self._vectors(asked.weights))
        subject = self._catalogue.subject_of(asked.subject, asked.voxels)
        table: pa.Table = await self._subject(subject).projections.remote(asked.voxels)
        return table

    async def caption(self, asked: CaptionRequest) -> pa.Table:
        """Captions of voxels by all methods, or of weights by the paper's."""
        if asked.voxels is not None:
            subject = self._catalogue.subject_of(asked.subject, asked.voxels)
            table: pa.Table = await self._subject(subject).captions.remote(asked.voxels, asked.partitions)
            return table
        projected = await self._projected(self._vectors(asked.weights))
        if not asked.partitions:
            projected = projected.filter(pc.equal(projected["partition"], WHOLE_BANK))
        written = await self._ask["captioner"].captions.remote(matrix(projected["embedding"]), None)
        columns = {
            "row": projected["row"],
            "backbone": self._catalogue.backbone,
            "partition": projected["partition"],
            "method": METHOD,
            "rank": 0,
            "caption": [beams[0].text for beams in written],
            "logprob": [beams[0].logprob for beams in written],
            "nouns": [nouns_of(beams[0].text) for beams in written],
            "candidates": [[beam.text for beam in beams] for beams in written],
            "candidate_scores": [[beam.logprob for beam in beams] for beams in written],
        }
        return table_of(pa.schema([_ROW, *CAPTIONS]), columns)

    async def nearest(self, asked: NearestRequest) -> pa.Table:
        """The bank's nearest pictures to voxels' weights, weights or texts."""
        if asked.voxels is not None:
            subject = self._catalogue.subject_of(asked.subject, asked.voxels)
            direction_QD = await self._subject(subject).weights.remote(asked.voxels)
        elif asked.weights is not None:
            direction_QD = self._vectors(asked.weights)
        else:
            direction_QD = await self._ask["encoder"].texts.remote(asked.texts)
        found: pa.Table = await self._ask["nearest"].nearest.remote(direction_QD, asked.k)
        return found.select(_NEAR)

    async def query(self, asked: QueryRequest) -> pa.Table:
        """Voxels by how much they answer to texts, the best first for each text."""
        subjects = list(self._catalogue.ids) if asked.subject is None else [self._catalogue.subject_of(asked.subject, None)]
        voxels = sum(len(self._catalogue.ids[subject]) for subject in subjects)
        rows = len(asked.texts) * min(voxels, asked.limit or voxels)
        self._check_values(rows * _COLUMNS, f"{rows:,} rows of {_COLUMNS} columns")
        text_QD = await self._ask["encoder"].texts.remote(asked.texts)
        ranked = await asyncio.gather(*(self._subject(one).rank.remote(text_QD, asked.limit) for one in subjects))
        if len(ranked) == 1:
            return ranked[0]
        every = pa.concat_tables(ranked)
        of_text = (every.filter(pc.equal(every["query"], query)) for query in range(len(asked.texts)))
        return pa.concat_tables([best_first(one, asked.limit) for one in of_text])

    async def synthesize(self, asked: SynthesizeRequest) -> pa.Table:
        """Pictures made of prompts, or of voxels' captions; with the run's seed those are the run's own pictures."""
        if "synthesis" not in self._ask:
            raise ConfigError("this service makes no pictures: start it with synthesizer: true, for a run that made some")
        subject, targets, prompts = "", asked.prompts or [], asked.prompts or []
        if asked.voxels is not None:
            subject = self._catalogue.subject_of(asked.subject, asked.voxels)
            prompts = await self._subject(subject).prompts.remote(asked.voxels)
            targets = [f"voxel {voxel}" for voxel in asked.voxels]
        places = [(row, sample) for row in range(len(prompts)) for sample in range(asked.count)]
        if len(places) > self._limits.images:
            raise ConfigError(
                f"count: {len(prompts):,} prompts times {asked.count} are {len(places):,} pictures; this service makes "
                f"{self._limits.images} at most in one request"
            )
        seeds = [image_seed(asked.seed, subject, targets[row], METHOD, sample) for row, sample in places]
        requests = [ImageRequest(prompts[row], seed) for (row, _), seed in zip(places, seeds, strict=True)]
        made: Sequence[MadeImage] = await self._ask["synthesis"].images.remote(requests)
        columns = {
            "row": [row for row, _ in places],
            "sample": [sample for _, sample in places],
            "prompt": [one.prompt for one in requests],
            "seed": seeds,
            "truncated": [one.truncated for one in made],
            "png": await asyncio.to_thread(lambda: [png_of(one.pixels_HW3) for one in made]),
        }
        return table_of(_SYNTHESIZED, columns)

    async def voxel(self, voxel: int, subject: str | None) -> dict[str, Any]:
        """Everything about a voxel."""
        subject = self._catalogue.subject_of(subject, [voxel])
        found: dict[str, Any] = await self._subject(subject).details.remote(voxel)
        return found

    async def _projected(self, weight_VD: npt.NDArray[np.float32]) -> pa.Table:
        found: pa.Table = await self._ask["projector"].project.remote(weight_VD)
        schema = pa.schema([_ROW, *projections_schema(self._dim)])
        return table_of(
            schema, {"backbone": self._catalogue.backbone, **dict(zip(found.column_names, found.columns, strict=True))}
        )

    def _vectors(self, weights: Sequence[Sequence[float]] | None) -> npt.NDArray[np.float32]:
        """Weights that were sent, (V, D). Raises ConfigError if one cannot be a direction in the backbone's space."""
        for place, weight in enumerate(weights or ()):
            if len(weight) != self._dim:
                raise ConfigError(
                    f"weights[{place}] has {len(weight):,} numbers; backbone {self._catalogue.backbone} has {self._dim}"
                )
        with np.errstate(over="ignore"):
            weight_VD = np.asarray(weights, np.float32)
            length_V = np.linalg.norm(weight_VD, axis=1)
        bad_V = ~(np.isfinite(length_V) & (length_V > 0))
        if bad_V.any():
            raise ConfigError(f"weights[{int(bad_V.argmax())}] has no direction: its length is {length_V[bad_V.argmax()]:g}")
        return weight_VD

    def _check_values(self, values: int, what: str) -> None:
        if values > self._limits.values:
            raise ConfigError(
                f"{what} are {values:,} values; one answer has {self._limits.values:,} at most: ask for less at once"
            )
