"""Settings of who and where: subjects, backbones, and the engine that spreads the work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scuba_ray.config.parts import Part, registered

NAME = "letters, digits, '_', '.' and '-' only"


class EngineConfig(Part):
    name: Literal["local", "ray"] = "ray"
    # a running Ray cluster to join (`auto` finds one on this machine); none starts an embedded Ray and stops it again
    address: str | None = None
    # workers of each step's pool: never fewer than min, never more than max, `initial` at the start
    min_workers: int = Field(1, ge=1)
    max_workers: int = Field(2, ge=1)
    initial_workers: int | None = Field(None, ge=1)
    # CPU cores each worker reserves (a fraction shares a core)
    cpus_per_worker: float = Field(0.5, gt=0)
    # GPUs each worker of a model step reserves; larger than 0 needs device: cuda
    gpus_per_worker: float = Field(0.0, ge=0)
    # ray only: workers of a pool of its own that reads and decodes pictures on plain CPU cores for the model's workers, and cores
    # each reserves; 0 lets every model worker decode for itself
    decoders: int = Field(0, ge=0)
    cpus_per_decoder: float = Field(1.0, gt=0)
    # threads of each worker's mathematics; as many processes decode pictures for it
    threads: int = Field(1, ge=1)
    # how often a lost worker is replaced, and a chunk tried again, before the step fails
    retries: int = Field(2, ge=0)
    # ray only: minutes a step waits for nodes where too few are up: those an autoscaler is bringing, also in place of lost ones
    grow_minutes: float = Field(30.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> EngineConfig:
        if self.max_workers < self.min_workers:
            raise ValueError(f"max_workers ({self.max_workers}) must be >= min_workers ({self.min_workers})")
        initial = self.initial_workers
        if initial is not None and not self.min_workers <= initial <= self.max_workers:
            raise ValueError(f"initial_workers ({initial}) must lie in [{self.min_workers}, {self.max_workers}]")
        return self


class WeightsConfig(Part):
    # your own fitted weights, one row per voxel: .npy, .npz (arrays weight and perhaps bias) or .parquet (column weight)
    path: str
    # Parquet table of the voxels in the same order: voxel_id, and where known hemi, vertex, i, j, k, xyz, rois, bias, r2, r,
    # noise_ceiling; none takes them from `path`, which is Parquet then
    voxels: str | None = None
    # name of the backbone of this configuration whose (unit) embeddings the weights were fitted on
    backbone: str

    @model_validator(mode="after")
    def _has_voxels(self) -> WeightsConfig:
        if self.voxels is None and Path(self.path).suffix in {".npy", ".npz"}:
            raise ValueError("an array says nothing of its voxels: give `voxels`, a Parquet table with a row per voxel")
        return self


class SubjectConfig(Part):
    # value of the `subject` key column, e.g. subj01
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description=NAME)
    # a registered dataset layout, or `module:Class`
    dataset: Annotated[str, registered("dataset")] = "arrays"
    # folder (or location) the layout lives in; may be left out where `weights` are given
    path: str | None = None
    # options of that layout, passed on as keywords
    options: dict[str, Any] = Field(default_factory=dict)
    # weights fitted elsewhere: nothing is encoded or fitted for this subject, they are projected and captioned
    weights: WeightsConfig | None = None

    @model_validator(mode="after")
    def _has_something(self) -> SubjectConfig:
        if self.path is None and self.weights is None:
            raise ValueError("give `path` (a data set), or `weights` fitted elsewhere")
        return self


class BackboneConfig(Part):
    # value of the `backbone` key column
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description=NAME)
    # open_clip:MODEL/PRETRAINED, local-dir:PATH, phantom:NAME, or `module:Class`
    model: str


def backbone_of(value: Any) -> Any:
    """Let a backbone be written as its model alone; its name is then the model's last words."""
    if isinstance(value, str):
        scheme, _, rest = value.partition(":")
        words = rest.rstrip("/").split("/")
        name = words[-1] if scheme in {"local-dir", "sentences"} else "-".join(words)
        return {"name": re.sub(r"[^A-Za-z0-9_.-]+", "-", name or scheme), "model": value}
    return value
