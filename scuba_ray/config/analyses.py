"""Which analyses a run takes, and their settings, a group each; an analysis that is not here has none."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from scuba_ray.config.parts import Part, registered

EVERY = "all"
"""Stands for every registered analysis that a run can have."""


def _listed(value: Any) -> Any:
    """A list that names `all` alone may be written without brackets."""
    return (EVERY,) if value == EVERY else value


Names = Annotated[tuple[Annotated[str, registered("analysis", EVERY)], ...], BeforeValidator(_listed)]

_TAGGER = r"^(auto|dictionary|spacy:[\w.-]+|[\w.]+:\w+)$"


class NounsConfig(Part):
    # auto: spaCy's en_core_web_sm where it is installed, else the dictionary, and the table says which. dictionary: words and
    # lemmas of lemminflect by short rules (`models/nouns.py`), offline. spacy:PIPELINE: an installed pipeline. Or `module:Class`
    tagger: str = Field("auto", pattern=_TAGGER, description="auto, dictionary, spacy:PIPELINE or module:Class")
    # of the bank's five disjoint partitions, how many must lead to a caption with a word before a voxel says it; larger leaves
    # out more of what comes from single bank pictures. 0 takes the whole bank's caption alone, as the paper does
    agreeing: int = Field(2, ge=0, le=5)


class BeyondNounsConfig(NounsConfig):
    # as for nouns; spaCy also finds who does what to what
    pass


class PersonConfig(Part):
    # nouns that name people beside those of `models/people.py`, in the singular
    also: tuple[str, ...] = ()
    # nouns of that list that do not count
    never: tuple[str, ...] = ()


class ClustersConfig(Part):
    # regions to divide; none divides each
    rois: tuple[str, ...] | None = None
    # parts of a region; auto tries 2 to `largest` and takes the number that random halves of its voxels agree on best
    k: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    # auto only: most parts tried
    largest: int = Field(6, ge=2)
    # nearest bank pictures shown for each part
    pictures: int = Field(8, ge=1)


class EmbeddingMapConfig(Part):
    # pca, or umap where umap-learn is installed
    method: Literal["pca", "umap"] = "pca"
    # subject whose projected embeddings the map is fitted on; none takes the first. The others are mapped by it unchanged
    fit_on: str | None = None
