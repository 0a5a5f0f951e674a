"""Settings of what is known about a caption: held-out scores, candidates ranked by drive, nouns that the pictures support."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from scuba_ray.config.parts import Part
from scuba_ray.config.studies import BackboneConfig, backbone_of

OWN = "own"
"""Value of the key column `judge` for the captioned backbone's own text tower."""


class JudgeConfig(BackboneConfig):
    """Another model that captions are scored by; like a backbone, with what of a test image it compares them with."""

    # image: its picture, by the judge's image tower. caption: its caption (column caption of stimuli.parquet), by the judge's
    # text tower; the only choice for a sentence encoder (model `sentences:DIRECTORY`)
    by: Literal["image", "caption"] = "image"

    @model_validator(mode="after")
    def _reads_pictures(self) -> JudgeConfig:
        if self.by == "image" and self.model.startswith("sentences:"):
            raise ValueError("a sentence encoder reads no pictures: set `by: caption`")
        if self.name == OWN:
            raise ValueError(f"{OWN} names the captioned backbone's own text tower; choose another name")
        return self


def _judge(value: Any) -> Any:
    """Let a judge be written as its model alone."""
    if isinstance(value, str):
        return {**backbone_of(value), "by": "caption" if value.startswith("sentences:") else "image"}
    return value


class ScoreConfig(Part):
    # models beside the captioned backbone's own text tower; one that had no part in making the captions is the fairer judge
    judges: tuple[Annotated[JudgeConfig, BeforeValidator(_judge)], ...] = ()
    # one more control: the caption of the one bank picture nearest to the voxel's direction, described as `lavca.describe` says
    top_image: bool = True
    # voxels per chunk
    chunk: int = Field(512, ge=1)

    @model_validator(mode="after")
    def _distinct(self) -> ScoreConfig:
        names = [judge.name for judge in self.judges]
        if len(set(names)) < len(names):
            raise ValueError(f"judges must have different names, got {', '.join(names)}")
        return self


class RerankConfig(Part):
    # also the captions of the bank's partitions are candidates, beside those for the whole bank
    partitions: bool = True
    # voxels per chunk
    chunk: int = Field(512, ge=1)


class SupportConfig(Part):
    # nearest bank images that a noun is held against
    pictures: int = Field(16, ge=1)
    # a noun is supported if fewer than this share of the voxels that do not name it have images as close to it
    level: float = Field(0.05, gt=0, lt=1)
