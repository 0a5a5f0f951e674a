"""The run's configuration: what may be set, what it means, and what it must be.

Every error names the path of the setting that failed, what it got and what it may be.
"""

from scuba_ray.config.evidence import ConceptsConfig, DescribeConfig, EndpointConfig, LavcaConfig, LocalModelConfig
from scuba_ray.config.parts import Part
from scuba_ray.config.preparation import PrepareConfig
from scuba_ray.config.run import RunConfig, backbone_config, load_config, make_config
from scuba_ray.config.scoring import JudgeConfig, RerankConfig, ScoreConfig, SupportConfig
from scuba_ray.config.serve import LimitsConfig, ReplicasConfig, ServeConfig, serve_config
from scuba_ray.config.steps import BankConfig, CaptionConfig, EncodeConfig, FitConfig, ProjectConfig, ReportConfig
from scuba_ray.config.studies import BackboneConfig, EngineConfig, SubjectConfig, WeightsConfig
from scuba_ray.config.synthesis import DiffusionConfig, GradientRouteConfig, ProbeConfig, SynthesizeConfig, TextRouteConfig

__all__ = [
    "BackboneConfig",
    "BankConfig",
    "CaptionConfig",
    "ConceptsConfig",
    "DescribeConfig",
    "DiffusionConfig",
    "EncodeConfig",
    "EndpointConfig",
    "EngineConfig",
    "FitConfig",
    "GradientRouteConfig",
    "JudgeConfig",
    "LavcaConfig",
    "LimitsConfig",
    "LocalModelConfig",
    "Part",
    "PrepareConfig",
    "ProbeConfig",
    "ProjectConfig",
    "ReplicasConfig",
    "ReportConfig",
    "RerankConfig",
    "RunConfig",
    "ScoreConfig",
    "ServeConfig",
    "SubjectConfig",
    "SupportConfig",
    "SynthesizeConfig",
    "TextRouteConfig",
    "WeightsConfig",
    "backbone_config",
    "load_config",
    "make_config",
    "serve_config",
]
