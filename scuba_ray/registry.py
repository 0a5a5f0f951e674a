"""Name to class, for each seam, on one page. Strings only: nothing heavy is imported until a name is asked for.

A dotted path (`my_lab.models:MyBackbone`) works wherever a name does, so a plugin needs no change here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scuba_ray.errors import ConfigError

SEAMS: dict[str, dict[str, str]] = {
    "engine": {
        "local": "scuba_ray.local:LocalEngine",
        "ray": "scuba_ray.actors.stage_pool:RayEngine",
    },
    "dataset": {
        "arrays": "scuba_ray.datasets.arrays:ArraysDataset",
        "algonauts2023": "scuba_ray.datasets.algonauts:AlgonautsDataset",
        "files": "scuba_ray.datasets.files_layout:FilesDataset",
        "laion_fmri": "scuba_ray.datasets.laion_fmri:LaionFmriDataset",
        "nsd": "scuba_ray.datasets.nsd:NsdDataset",
    },
    "images": {
        "folder": "scuba_ray.datasets.images:FolderImages",
        "webdataset": "scuba_ray.datasets.webdataset:TarImages",
        "parquet": "scuba_ray.datasets.parquet_images:ParquetImages",
    },
    "backbone": {
        "open_clip": "scuba_ray.models.clip:OpenClipBackbone",
        "local-dir": "scuba_ray.models.clip:OpenClipBackbone",
        "phantom": "scuba_ray.models.clip:OpenClipBackbone",
        "sentences": "scuba_ray.models.sentences:SentenceEncoder",
        "pixels": "scuba_ray.models.low_level:LowLevelBackbone",
    },
    "captioner": {
        "prefix": "scuba_ray.models.clipcap:PrefixCaptioner",
    },
    "synthesizer": {
        "text": "scuba_ray.models.diffusion:TextToImage",
        "gradient": "scuba_ray.models.brain_guidance:BrainGuided",
    },
    "tagger": {
        "dictionary": "scuba_ray.models.tagging:DictionaryTagger",
        "spacy": "scuba_ray.models.tagging:SpacyTagger",
    },
    "analysis": {
        "agreement": "scuba_ray.analyses.agreement:Agreement",
        "backbones": "scuba_ray.analyses.backbones:Backbones",
        "beyond_nouns": "scuba_ray.analyses.beyond_nouns:BeyondNouns",
        "clusters": "scuba_ray.analyses.clusters:Clusters",
        "comparison": "scuba_ray.analyses.comparison:Comparison",
        "embedding_map": "scuba_ray.analyses.embedding_map:EmbeddingMap",
        "nouns": "scuba_ray.analyses.nouns:Nouns",
        "person": "scuba_ray.analyses.person:Person",
        "probe": "scuba_ray.analyses.probe:Probe",
        "selectivity": "scuba_ray.analyses.selectivity:Selectivity",
        "support": "scuba_ray.analyses.support:Support",
        "recovery": "scuba_ray.analyses.recovery:Recovery",
        "synthesis": "scuba_ray.analyses.synthesis:Synthesis",
    },
}


def resolve(seam: str, name: str) -> Any:
    """Return the class registered as `name` for `seam`, or the one a dotted path `module:Class` names.

    Raises
    ------
    ConfigError
        If the name is unknown or the path cannot be imported; the message lists the names there are.
    """
    target = SEAMS[seam].get(name, name)
    module_name, separator, class_name = target.partition(":")
    if not separator:
        known = ", ".join(sorted(SEAMS[seam]))
        raise ConfigError(f"no {seam} is called {name!r}; known: {known}. A path 'module:Class' works too.")
    try:
        return getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{seam} {name!r}: cannot load {class_name} from {module_name}: {error}") from error
