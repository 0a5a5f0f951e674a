"""What clients get, for the OpenAPI document and for answers that are no tables.

Most answers are rows: `{"rows": [...]}` as JSON, the same columns as an Arrow table; a number that does not exist is null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Predicted(BaseModel):
    """Of one picture: what each voxel is predicted to answer, or why the picture cannot be read."""

    image: int = Field(description="its place in the request")
    subject: str
    backbone: str
    voxel_ids: list[int] | None
    predicted: list[float | None] | None = Field(
        description="w . x / |x| + b for each of voxel_ids, in the fitted responses' units (z); null for a voxel without weights"
    )
    error: str | None


class Key(BaseModel):
    """What a row belongs to."""

    row: int = Field(description="place in the request of the voxel or vector")
    subject: str | None = Field(description="null for weights that were sent")
    backbone: str
    voxel_id: int | None = Field(description="null for weights that were sent")
    partition: int = Field(description="a part of the bank, or -1 for all of it")


class Projected(Key):
    """A row of the table `projections`."""

    embedding: list[float]
    cos_before_after: float | None
    n_eff: float | None
    bank_agreement: float | None
    half_agreement: float | None
    nearest_ids: list[str]
    nearest_cos: list[float]
    missing_mass: float | None
    certainty: str


class Captioned(Key):
    """A row of the table `captions`."""

    method: str
    rank: int
    caption: str
    logprob: float | None
    nouns: list[str] | None
    share: float | None
    candidates: list[str] | None
    candidate_scores: list[float | None] | None


class Near(BaseModel):
    """A picture of the bank."""

    query: int = Field(description="place in the request of the voxel, vector or text")
    rank: int
    image_id: str
    uri: str | None
    cosine: float


class Ranked(BaseModel):
    """A voxel and how much it answers to a text."""

    query: int = Field(description="place of the text in the request")
    subject: str
    backbone: str
    voxel_id: int
    roi: str
    noise_ceiling: float | None
    r2: float | None
    q: float | None = Field(description="voxels with q < .05 come before all others")
    cosine: float | None = Field(description="of the voxel's weights with the text's embedding")
    caption: str | None


class Synthesized(BaseModel):
    """A picture that was made."""

    row: int = Field(description="place in the request of the prompt or voxel")
    sample: int
    prompt: str
    seed: int = Field(description="of this picture's noise")
    truncated: bool = Field(description="the prompt was longer than the text encoder reads")
    png: str = Field(description="base64 in JSON, bytes in Arrow")


class PredictAnswer(BaseModel):
    """A row a picture."""

    rows: list[Predicted]


class ProjectAnswer(BaseModel):
    """Rows voxel by voxel: a row a partition, the whole bank last."""

    rows: list[Projected]


class CaptionAnswer(BaseModel):
    """Rows voxel by voxel, in the order asked."""

    rows: list[Captioned]


class NearestAnswer(BaseModel):
    """Rows query by query, the nearest first."""

    rows: list[Near]


class QueryAnswer(BaseModel):
    """Rows text by text, the best voxels first."""

    rows: list[Ranked]


class SynthesizeAnswer(BaseModel):
    """Rows prompt by prompt."""

    rows: list[Synthesized]


class SubjectAbout(BaseModel):
    """A subject of a run."""

    subject: str
    voxels: int
    captioned: int = Field(description="voxels that have a caption")
    regions: list[str]


class RunAbout(BaseModel):
    """A run that is served."""

    name: str
    backbone: str = Field(description="whose weights are projected and captioned")
    dim: int = Field(description="length of its embeddings and of weights")
    backbones: list[str]
    subjects: list[SubjectAbout]
    methods: list[str] = Field(description="of captions")
    bank: int = Field(description="pictures")
    captioner: str
    versions: dict[str, str | None]
    config: dict[str, Any] = Field(description="the run's settings without locations")
    serves: list[Literal["predict", "project", "caption", "nearest", "query", "synthesize"]]


class Runs(BaseModel):
    """The runs this service answers for."""

    runs: list[RunAbout]


class VoxelAnswer(BaseModel):
    """Everything the run knows about one voxel; each list has the columns of the table it is named after."""

    subject: str
    backbone: str
    voxel_id: int
    voxel: dict[str, Any]
    captions: list[dict[str, Any]]
    projections: list[dict[str, Any]]
    bands: list[dict[str, Any]]
    support: list[dict[str, Any]]
    images: list[dict[str, Any]]


class Health(BaseModel):
    """Which deployments answer."""

    healthy: bool
    deployments: dict[str, str] = Field(description="ok, or what is wrong")
