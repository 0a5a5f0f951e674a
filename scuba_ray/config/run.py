"""A whole run's settings, read from YAML, overridden by `--set a.b=c`, checked, frozen ever after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from scuba_ray.config.analyses import BeyondNounsConfig, ClustersConfig, EmbeddingMapConfig, Names, NounsConfig, PersonConfig
from scuba_ray.config.evidence import ConceptsConfig, LavcaConfig
from scuba_ray.config.messages import in_words
from scuba_ray.config.parts import Part
from scuba_ray.config.preparation import PrepareConfig
from scuba_ray.config.scoring import RerankConfig, ScoreConfig, SupportConfig
from scuba_ray.config.settings import apply_override, read_settings
from scuba_ray.config.steps import BankConfig, CaptionConfig, EncodeConfig, FitConfig, ProjectConfig, ReportConfig
from scuba_ray.config.studies import BackboneConfig, EngineConfig, SubjectConfig, backbone_of
from scuba_ray.config.synthesis import SynthesizeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import LOW_LEVEL


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
    backbones: tuple[Annotated[BackboneConfig, BeforeValidator(backbone_of)], ...] = Field(min_length=1)
    prepare: PrepareConfig = PrepareConfig()
    encode: EncodeConfig = EncodeConfig()
    fit: FitConfig = FitConfig()
    bank: BankConfig
    project: ProjectConfig = ProjectConfig()
    caption: CaptionConfig
    # a second caption for each voxel, chosen among all its candidates by predicted response; null leaves it out
    rerank: RerankConfig | None = RerankConfig()
    # captions after LaVCa, from keywords of the nearest pictures' descriptions; none leaves them out
    lavca: LavcaConfig | None = None
    # a caption for each cluster of the nearest pictures, for voxels that answer to several things; none leaves them out
    concepts: ConceptsConfig | None = None
    # how well captions predict held-out responses, beside controls; null leaves it out
    score: ScoreConfig | None = ScoreConfig()
    # images of what regions and voxels answer to, from captions and by gradient; none leaves them out
    synthesize: SynthesizeConfig | None = None
    # of the analysis `support`
    support: SupportConfig = SupportConfig()
    # of the analyses of the same names
    nouns: NounsConfig = NounsConfig()
    beyond_nouns: BeyondNounsConfig = BeyondNounsConfig()
    person: PersonConfig = PersonConfig()
    clusters: ClustersConfig = ClustersConfig()
    embedding_map: EmbeddingMapConfig = EmbeddingMapConfig()
    # by name, or all: every one that this run can have. run.json names what `all` came to, and the run says what it left out
    analyses: Names = ()
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
        for name, group in (("lavca", self.lavca), ("concepts", self.concepts)):
            if group is not None and group.pictures > self.project.nearest:
                raise ValueError(f"{name}.pictures ({group.pictures}) must be <= project.nearest ({self.project.nearest})")
        if self.lavca is not None and self.lavca.describe.model is not None and not self._pictures:
            raise ValueError("lavca.describe.model looks at pictures: say where they are with lavca.describe.images")
        known = [backbone.name for backbone in self.backbones]
        if LOW_LEVEL in known:
            raise ValueError(f"backbones: {LOW_LEVEL} is the baseline that fit.low_level adds to every run; choose another name")
        judge = self.synthesize and self.synthesize.judge
        if judge is not None and judge not in known:
            raise ValueError(f"synthesize.judge is {judge!r}, which is not fitted: backbones has {', '.join(known)}")
        for subject in self.subjects:
            if subject.weights is not None and subject.weights.backbone not in known:
                raise ValueError(
                    f"weights of {subject.name} belong to backbone {subject.weights.backbone!r}, backbones has {', '.join(known)}"
                )
        return self

    @property
    def _pictures(self) -> str | None:
        """Where a describer finds the bank's pictures."""
        return self.bank.images or (self.lavca.describe.images if self.lavca else None)


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
        return BackboneConfig.model_validate(backbone_of(model))
    except ValidationError as error:
        raise ConfigError(f"backbone: {in_words(error, BackboneConfig)}") from error
