"""What a configuration names, opened and checked before anything is computed: data sets, backbones, captioner, bank, device.

Whatever can be known to fail later fails here, with nothing started and nothing written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from scuba_ray.bank.shards import BankFolder, open_bank
from scuba_ray.config import BackboneConfig, DiffusionConfig, EngineConfig, Part, RunConfig, SubjectConfig, SynthesizeConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.models.image_to_text import ImageToText
from scuba_ray.models.language import make_language_model
from scuba_ray.protocols import LOW_LEVEL, Analysis, Backbone, Captioner, ImageSource, Resources, SubjectDataset, Synthesizer
from scuba_ray.stages.chosen_analyses import Chosen, choose
from scuba_ray.stages.encode_captions import check_captions
from scuba_ray.stages.imported import ImportedWeights
from scuba_ray.stages.project_index import check_index
from scuba_ray.stages.synthesizers import check_targets, make_synthesizers
from scuba_ray.tables import files

Settings = TypeVar("Settings", bound=Part)
_DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")


@dataclass(frozen=True)
class Study:
    """A run's parts, open and fitting each other; no weights are loaded."""

    datasets: dict[str, SubjectDataset]
    """Of the subjects that are fitted."""
    weights: dict[str, ImportedWeights]
    """Of the subjects that were fitted elsewhere."""
    identity: dict[str, str]
    """Fingerprint of each subject's data set, or of its weights."""
    backbones: tuple[Backbone, ...]
    reader: Backbone
    """The backbone the captioner was trained for: the one whose weights are projected and captioned."""
    captioner: Captioner
    pictures: ImageSource | None
    """What the run's own bank is built from; or"""
    bank: BankFolder | None
    """a bank built before."""
    chosen: Chosen
    """Its analyses, and the configuration that names them."""
    judges: tuple[Backbone, ...]
    """What captions are scored by beside the reader, in the order of `score.judges`."""
    resources: Resources
    """What one worker of a model step holds."""
    low_level: Backbone | None
    """The baseline that is fitted beside the backbones, never projected or captioned."""
    synthesizers: Mapping[str, Synthesizer]
    """What makes the pictures of each method."""

    @property
    def spaces(self) -> tuple[Backbone, ...]:
        """Everything that is encoded and fitted."""
        return self.backbones if self.low_level is None else (*self.backbones, self.low_level)


def open_study(config: RunConfig) -> Study:
    """Open everything `config` names.

    Raises
    ------
    ConfigError
        If a path is not there, a device is not available, a bank was made with another backbone or lacks an index, the captioner
        was trained for none of the backbones, an analysis cannot be made of this data, or there is no such region or voxel to
        make images of.
    DataError
        If a data set's files do not fit each other.
    """
    resources = model_resources(config.device, config.engine)
    if config.project.scores == "tf32" and config.device == "cpu":
        raise ConfigError("project.scores is tf32, an arithmetic of CUDA devices, but device is cpu: use float32 or bfloat16")
    datasets = {subject.name: make_dataset(subject) for subject in config.subjects if subject.weights is None}
    backbones = tuple(make_backbone(backbone) for backbone in config.backbones)
    captioner = make_captioner(config.caption)
    reader = backbone_of(captioner, backbones)
    pictures = bank = None
    if config.bank.path is not None:
        bank = open_bank(config.bank.path, reader)
    else:
        assert config.bank.images is not None, "BankConfig gives one of path and images"
        pictures = make_images(config.bank.source, config.bank.images)
    if config.project.method == "index":
        check_index(bank, config.project)
    weights = {subject.name: _weights(subject, reader) for subject in config.subjects if subject.weights is not None}
    identity = {name: dataset.fingerprint() for name, dataset in datasets.items()}
    identity |= {name: mine.fingerprint() for name, mine in weights.items()}
    chosen = choose(config, partial(unscored, datasets))
    judges = tuple(make_backbone(judge) for judge in (config.score.judges if config.score else ()))
    low_level = make_backbone(BackboneConfig(name=LOW_LEVEL, model=f"pixels:{LOW_LEVEL}")) if config.fit.low_level else None
    if config.lavca is not None:
        make_language_model(config.lavca, config.out)
        if config.lavca.describe.model is not None:
            ImageToText(config.lavca.describe)
    if "caption" in config.fit.bands:
        for dataset in datasets.values():
            check_captions(dataset, "fit.bands has 'caption'", "leave 'caption' out of fit.bands")
    for judge in config.score.judges if config.score else ():
        for dataset in datasets.values() if judge.by == "caption" else ():
            check_captions(dataset, f"judge {judge.name} reads captions", "leave that judge out of score.judges")
    if config.synthesize is not None:
        check_targets(
            config.synthesize, [*(one.voxels() for one in datasets.values()), *(one.voxels for one in weights.values())]
        )
    return Study(
        datasets=datasets,
        weights=weights,
        identity=identity,
        backbones=backbones,
        reader=reader,
        captioner=captioner,
        pictures=pictures,
        bank=bank,
        chosen=chosen,
        judges=judges,
        resources=resources,
        low_level=low_level,
        synthesizers=make_synthesizers(chosen.config, reader),
    )


def unscored(datasets: Mapping[str, SubjectDataset], analysis: Analysis) -> str | None:
    """Why an analysis has no scores to read: no data set has test images to score captions by; None if it has, or needs none."""
    if "scores" not in analysis.inputs or any("test" in one.stimuli()["split"].to_pylist() for one in datasets.values()):
        return None
    return "reads scores of captions, and no subject has test images"


def located(config: RunConfig) -> RunConfig:
    """The configuration with local paths made absolute: workers, or a later `scuba report`, may run in another directory."""
    subjects = tuple(
        _located(one, "path").model_copy(update={"weights": one.weights and _located(one.weights, "path", "voxels")})
        for one in config.subjects
    )
    bank = _located(config.bank, "path", "images")
    report = _located(config.report, "leave_out")
    lavca = config.lavca and config.lavca.model_copy(update={"describe": _located(config.lavca.describe, "images")})
    places = {"out": files.normalise(config.out), "subjects": subjects, "bank": bank, "lavca": lavca, "report": report}
    return config.model_copy(update={**places, "synthesize": config.synthesize and _with_models(config.synthesize)})


def _with_models(settings: SynthesizeConfig) -> SynthesizeConfig:
    """Settings of images with directories of diffusion models made absolute; phantom models and hub names stay."""

    def at(diffusion: DiffusionConfig | None) -> DiffusionConfig | None:
        return _located(diffusion, "model") if diffusion and Path(diffusion.model).expanduser().is_dir() else diffusion

    text = settings.text and settings.text.model_copy(update={"diffusion": at(settings.text.diffusion)})
    gradient = settings.gradient and settings.gradient.model_copy(update={"diffusion": at(settings.gradient.diffusion)})
    return settings.model_copy(update={"diffusion": at(settings.diffusion), "text": text, "gradient": gradient})


def _located(part: Settings, *names: str) -> Settings:
    """A group of settings with the locations among them made absolute."""
    places = {name: files.normalise(place) for name in names if (place := getattr(part, name)) is not None}
    return part.model_copy(update=places)


def _weights(subject: SubjectConfig, reader: Backbone) -> ImportedWeights:
    """Open imported weights. Raises ConfigError if they are not in the space that is projected and captioned."""
    assert subject.weights is not None, "asked of subjects with weights only"
    if subject.weights.backbone != reader.name:
        raise ConfigError(
            f"weights of {subject.name} belong to backbone {subject.weights.backbone}, but the captioner reads {reader.name}: "
            "only weights on its embeddings can be projected and captioned"
        )
    return ImportedWeights(subject.name, subject.weights, reader.dim)


def backbone_of(captioner: Captioner, backbones: tuple[Backbone, ...]) -> Backbone:
    """The first backbone that the captioner reads.

    Raises
    ------
    ConfigError
        If it was trained for none of them.
    """
    refusals: list[str] = []
    for backbone in backbones:
        try:
            captioner.check_backbone(backbone)
            return backbone
        except ConfigError as error:
            refusals.append(str(error))
    raise ConfigError("\n".join(refusals))


def model_resources(device: str, engine: EngineConfig) -> Resources:
    """What a worker that computes on `device` reserves.

    Raises
    ------
    ConfigError
        If the device is unknown or not there, or does not fit the engine's GPU settings.
    """
    match = _DEVICE.fullmatch(device)
    if not match:
        raise ConfigError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    if device == "cpu":
        if engine.gpus_per_worker:
            raise ConfigError(
                f"engine.gpus_per_worker is {engine.gpus_per_worker:g} but device is cpu: set device to cuda, or reserve none"
            )
        return Resources(cpus=engine.cpus_per_worker)
    if engine.name == "ray" and (device != "cuda" or not engine.gpus_per_worker):
        raise ConfigError(
            f"device {device} on engine ray: Ray gives each worker its GPU, so set device to cuda and engine.gpus_per_worker > 0"
        )
    # the driver of a running cluster may have no GPU itself; Ray refuses workers it can place nowhere
    if engine.name == "local" or engine.address is None:
        _check_cuda(int(match[1] or 0))
    return Resources(cpus=engine.cpus_per_worker, gpus=engine.gpus_per_worker)


def _check_cuda(index: int) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise ConfigError(f"device cuda:{index} is not available: torch sees {count} CUDA devices here; use device: cpu")
