"""What clients send: shapes, limits, examples and the words of the OpenAPI document.

Every request holds a list. Limits are the service's own (`LimitsConfig`), so `check_limits` holds a request against them and the
OpenAPI document gets them from `with_limits`; what no service accepts (an empty list, an unknown field, NaN) no schema does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scuba_ray.config import LimitsConfig
from scuba_ray.errors import ConfigError

CAPS = {**dict.fromkeys(("images", "voxels", "weights", "texts", "prompts", "k"), "items"), "count": "images"}
"""Which of the service's limits holds for a field of a request, by the field's name."""
_TEXTS = ("texts", "prompts")


class Body(BaseModel):
    """A request: unknown fields and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


VoxelId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Texts = Annotated[list[Annotated[str, Field(pattern=r"\S")]], Field(min_length=1)]
VoxelIds = Annotated[list[VoxelId], Field(min_length=1, description="ids of the run's voxels")]
Weights = Annotated[
    list[Annotated[list[float], Field(min_length=1)]],
    Field(min_length=1, description="vectors in the captioned backbone's space, of any length but zero"),
]
Subject = Annotated[
    str | None,
    Field(description="a subject of the run; needed where it has several of them that hold what was asked for", max_length=200),
]


class Picture(Body):
    """One picture: its file in base64, or where the service finds it below its root."""

    data: str | None = Field(None, description="the picture's file (PNG, JPEG, ...), base64")
    uri: str | None = Field(None, description="a path below the service's root, if it has one", max_length=4096)

    @model_validator(mode="after")
    def _one(self) -> Picture:
        if (self.data is None) == (self.uri is None):
            raise ValueError("give one of data and uri")
        return self


class PredictRequest(Body):
    """Pictures whose responses are predicted."""

    subject: Subject = None
    images: Annotated[list[Picture], Field(min_length=1)]
    voxels: VoxelIds | None = Field(None, description="which voxels; all of the subject's if none are named")

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"images": [{"data": "iVBORw0KGgo="}], "voxels": [0, 1]}]},
    )


class VoxelRequest(Body):
    """Voxels of the run, or weight vectors."""

    subject: Subject = None
    voxels: VoxelIds | None = None
    weights: Weights | None = None

    @model_validator(mode="after")
    def _one(self) -> VoxelRequest:
        _exactly_one(self, ("voxels", "weights"))
        return self


class ProjectRequest(VoxelRequest):
    """What is projected on the bank."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"voxels": [0, 1]}]})


class CaptionRequest(VoxelRequest):
    """What is captioned."""

    partitions: bool = Field(False, description="captions of each of the bank's partitions too, not of the whole bank alone")

    model_config = ConfigDict(json_schema_extra={"examples": [{"voxels": [0, 1]}]})


class NearestRequest(Body):
    """What the bank's nearest pictures are looked up for."""

    subject: Subject = None
    voxels: VoxelIds | None = None
    weights: Weights | None = None
    texts: Texts | None = None
    k: int = Field(8, ge=1, description="pictures for each")

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["a plate of food"], "k": 4}]})

    @model_validator(mode="after")
    def _one(self) -> NearestRequest:
        _exactly_one(self, ("voxels", "weights", "texts"))
        return self


class QueryRequest(Body):
    """Texts that voxels are ranked by."""

    subject: Subject = Field(None, description="only this subject's voxels; those of all if none is named")
    texts: Texts
    limit: int | None = Field(None, ge=1, le=2**31 - 1, description="best voxels for each text; all if not given")

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["a plate of food"], "limit": 10}]})


class SynthesizeRequest(Body):
    """What pictures are made of."""

    subject: Subject = None
    prompts: Texts | None = None
    voxels: VoxelIds | None = Field(None, description="voxels whose captions are the prompts")
    seed: int = Field(0, ge=0, lt=2**32, description="the same seed and prompt make the same picture")
    count: int = Field(1, ge=1, description="pictures of each prompt")

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompts": ["a photo of a dog"], "count": 1}]})

    @model_validator(mode="after")
    def _one(self) -> SynthesizeRequest:
        _exactly_one(self, ("prompts", "voxels"))
        return self


def _exactly_one(body: Body, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(body, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give one of {', '.join(names)}, got {' and '.join(given) or 'none'}")


def check_limits(body: Body, limits: LimitsConfig) -> None:
    """Raise ConfigError if a list, text or number of the request is beyond what this service takes."""
    for name, limit in CAPS.items():
        value = getattr(body, name) if name in body.model_fields_set else None  # a default is no wish
        asked, allowed = len(value) if isinstance(value, list) else value or 0, getattr(limits, limit)
        if asked > allowed:
            raise ConfigError(f"{name}: {asked:,} were asked for; this service takes {allowed:,} at most in one request")
    for name in _TEXTS:
        for place, text in enumerate(getattr(body, name, None) or ()):
            if len(text) > limits.characters:
                raise ConfigError(
                    f"{name}[{place}] has {len(text):,} characters; this service reads {limits.characters:,} at most"
                )


def with_limits(document: dict[str, Any], limits: LimitsConfig) -> dict[str, Any]:
    """The OpenAPI document with the service's limits at the fields of requests, in place."""
    for schema_name, schema in document["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items() if schema_name.endswith("Request") else ():
            for one in [field, *field.get("anyOf", ())]:
                if name in CAPS and one.get("type") in {"array", "integer"}:
                    one["maxItems" if one["type"] == "array" else "maximum"] = getattr(limits, CAPS[name])
                if name in _TEXTS and one.get("type") == "array":
                    one["items"]["maxLength"] = limits.characters
    return document
