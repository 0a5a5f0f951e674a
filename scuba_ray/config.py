"""The run's configuration: what may be set, what it means, and what it must be.

Read from YAML, overridden by `--set a.b=c`, frozen ever after. Every error names the path of the setting that failed, what it
got and what it may be. A field's comment gives its unit and what larger means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scuba_ray.config_messages import in_words
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import LOW_LEVEL
from scuba_ray.registry import SEAMS
from scuba_ray.settings import apply_override, read_settings

NAME = "letters, digits, '_', '.' and '-' only"


class Part(BaseModel):
    """A group of settings: frozen, and unknown keys are errors. A field's description is what its error message advises."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _registered(seam: str) -> AfterValidator:
    """Accept a name of the registry or a path `module:Class`; the class itself is loaded when it is used."""

    def check(name: str) -> str:
        if name not in SEAMS[seam] and ":" not in name:
            known = ", ".join(sorted(SEAMS[seam]))
            raise ValueError(f"must be one of {known}, or a path 'module:Class'")
        return name

    return AfterValidator(check)


class EngineConfig(Part):
    name: Literal["local", "ray"] = "ray"
    # a running Ray cluster to join (`auto` finds one on this machine); none starts an embedded Ray and stops it again
    address: str | None = None
    # workers of each step's pool: never fewer than min, never more than max, `initial` at the start
    min_workers: int = Field(1, ge=1)
    max_workers: int = Field(2, ge=1)
    initial_workers: int | None = Field(None, ge=1)
    # CPU cores each worker reserves (a fraction shares a core) and threads its mathematics uses
    cpus_per_worker: float = Field(0.5, gt=0)
    # GPUs each worker of a model step reserves; larger than 0 needs device: cuda
    gpus_per_worker: float = Field(0.0, ge=0)
    threads: int = Field(1, ge=1)
    # how often a lost worker is replaced, and a chunk tried again, before the step fails
    retries: int = Field(2, ge=0)

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
    dataset: Annotated[str, _registered("dataset")] = "arrays"
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


def _backbone(value: Any) -> Any:
    """Let a backbone be written as its model alone; its name is then the model's last words."""
    if isinstance(value, str):
        scheme, _, rest = value.partition(":")
        words = rest.rstrip("/").split("/")
        name = words[-1] if scheme == "local-dir" else "-".join(words)
        return {"name": re.sub(r"[^A-Za-z0-9_.-]+", "-", name or scheme), "model": value}
    return value


class EncodeConfig(Part):
    # images per network pass; larger is faster until memory ends, results do not change
    batch: int = Field(128, ge=1)
    # images per chunk (and rows per Parquet part); a chunk is what is redone after a fault
    chunk: int = Field(1024, ge=1)
    # pixels above which a picture is refused as a decompression bomb
    max_pixels: int = Field(100_000_000, ge=1)


class FitConfig(Part):
    # ridge: closed form, alpha per voxel by cross-validation. sgd: the published optimiser
    method: Literal["ridge", "sgd"] = "ridge"
    # ridge penalties tried, as decimal exponents [from, to] and their number; larger shrinks more
    alpha_log10: tuple[float, float] = (-2.0, 5.0)
    alphas: int = Field(20, ge=1)
    # folds of *images* for choosing alpha
    folds: int = Field(5, ge=2)
    # voxels per chunk
    chunk: int = Field(512, ge=1)
    # permutations of test responses for p; 0 leaves p and q null
    permutations: int = Field(1000, ge=0)
    # images that are permuted together
    permutation_block: int = Field(1, ge=1)
    # the low-level baseline (size, luminance, contrast, spatial frequencies) fitted beside the backbones, as a control
    low_level: bool = True
    # second feature sets of banded fits, beside the image embedding: low-level, caption (column caption of stimuli.parquet)
    bands: tuple[Literal["low-level", "caption"], ...] = ("low-level",)
    # noise ceiling (share of variance) below which no normalised score is given
    ceiling_floor: float = Field(0.1, ge=0, le=1)
    # sgd only: encode the training images anew every epoch with random gain, shift and noise, as published: a network pass per
    # training image, epoch and worker (METHOD: 909,300 a subject). false fits the cached embeddings, at next to no cost
    jitter: bool = True
    # sgd only: passes over the training images, images per step, initial rate, weight decay (published values)
    epochs: int = Field(100, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(1.5e-2, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> FitConfig:
        lowest, highest = self.alpha_log10
        if lowest > highest:
            raise ValueError(f"alpha_log10 must go from the smaller to the larger exponent, got [{lowest:g}, {highest:g}]")
        if LOW_LEVEL in self.bands and not self.low_level:
            raise ValueError("bands has low-level, which needs low_level: true; without the baseline, set bands: []")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands must be different, got {', '.join(self.bands)}")
        return self


class BankConfig(Part):
    # a bank built before (a folder of shards); or
    path: str | None = None
    # pictures to build the run's own bank from (kept in RUN/bank): a registered image source and where it lives
    source: Annotated[str, _registered("images")] = "folder"
    images: str | None = None

    @model_validator(mode="after")
    def _one(self) -> BankConfig:
        if (self.path is None) == (self.images is None):
            raise ValueError("give either `path` (a bank built before) or `images` (pictures to build one from)")
        return self


class ProjectConfig(Part):
    # inverse temperature of the softmax over the bank; larger averages fewer images (the paper uses 150)
    beta: float = Field(150.0, gt=0, description="the paper uses 150")
    # nearest bank images kept per voxel
    nearest: int = Field(64, ge=1)
    # bank images per tile: working memory is chunk * tile * 4 bytes
    tile: int = Field(8192, ge=1)
    # voxels per chunk
    chunk: int = Field(512, ge=1)


class CaptionConfig(Part):
    # a captioner directory (`scuba captioner train`), phantom:NAME, clipcap:CHECKPOINT.pt, or `module:Class`
    model: str
    # clipcap only: directory of the GPT-2 tokenizer and config the checkpoint belongs to
    language_model: str | None = None
    # clipcap only: fingerprint of the backbone the checkpoint reads, where that is not open_clip:ViT-B-32-quickgelu/openai by
    # name, such as a copy of it in a local directory (the error message of a mismatch gives the fingerprint)
    trained_for: str | None = None
    # beams kept at every step; larger searches wider
    beams: int = Field(5, ge=1)
    # longest caption, tokens
    max_tokens: int = Field(67, ge=1)
    # softmax temperature of the next token; larger is flatter
    temperature: float = Field(1.0, gt=0)
    # a beam ends at this token
    stop: str = "."
    # voxels decoded together; larger is faster until memory ends, results do not change
    batch: int = Field(64, ge=1)
    # projections per chunk
    chunk: int = Field(1024, ge=1)


class ReportConfig(Part):
    # title of the page; none uses the run's name
    title: str | None = None


class RunConfig(Part):
    """Everything one run does. See `examples/phantom.yaml` for a commented file."""

    name: str = Field(min_length=1)
    # folder (or object-store location) the tables are written to
    out: str
    # seed of folds, permutations and split halves
    seed: int = Field(0, ge=0)
    # where models compute: cpu, cuda, cuda:1, ...
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")
    engine: EngineConfig = EngineConfig()
    subjects: tuple[SubjectConfig, ...] = Field(min_length=1)
    backbones: tuple[Annotated[BackboneConfig, BeforeValidator(_backbone)], ...] = Field(min_length=1)
    encode: EncodeConfig = EncodeConfig()
    fit: FitConfig = FitConfig()
    bank: BankConfig
    project: ProjectConfig = ProjectConfig()
    caption: CaptionConfig
    analyses: tuple[Annotated[str, _registered("analysis")], ...] = ()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _distinct(self) -> RunConfig:
        for what, names in (
            ("subjects", [subject.name for subject in self.subjects]),
            ("backbones", [backbone.name for backbone in self.backbones]),
            ("analyses", list(self.analyses)),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} must have different names, got {', '.join(twice)} more than once")
        known = [backbone.name for backbone in self.backbones]
        if LOW_LEVEL in known:
            raise ValueError(f"backbones: {LOW_LEVEL} is the baseline that fit.low_level adds to every run; choose another name")
        for subject in self.subjects:
            if subject.weights is not None and subject.weights.backbone not in known:
                raise ValueError(
                    f"weights of {subject.name} belong to backbone {subject.weights.backbone!r}, backbones has {', '.join(known)}"
                )
        return self


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file and apply `a.b=c` overrides (values are YAML; `subjects.0.path=...` reaches into lists).

    Relative paths of data, banks and models in the file are taken from the current directory, like any argument.

    Raises
    ------
    ConfigError
        If the file is missing or not YAML, or any setting is unknown, of the wrong type or out of range.
    """
    settings = read_settings(path)
    for override in overrides:
        apply_override(settings, override)
    return make_config(settings)


def make_config(settings: Mapping[str, Any]) -> RunConfig:
    """Validate settings that are already in memory. Raises ConfigError with one line per problem."""
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(in_words(error, RunConfig)) from error


def backbone_config(model: str) -> BackboneConfig:
    """A backbone given by its model alone (`open_clip:ViT-B-32-quickgelu/openai`), named after it."""
    try:
        return BackboneConfig.model_validate(_backbone(model))
    except ValidationError as error:
        raise ConfigError(f"backbone: {in_words(error, BackboneConfig)}") from error
