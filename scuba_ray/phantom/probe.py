"""The prompts of the five-way probe: the paper's, the user's own, and those in the words of the phantom's drawings.

The phantom's are generated from the data's own subcategories.
"""

from __future__ import annotations

from collections import Counter

from scuba_ray.config import ProbeConfig
from scuba_ray.models.probe_prompts import PAPER_PROMPTS
from scuba_ray.phantom.concepts import PAPER_ROIS, Concept, load_vocabulary
from scuba_ray.phantom.phrases import OPENINGS
from scuba_ray.phantom.scenes import kinds_of


def prompts_of(probe: ProbeConfig) -> dict[str, tuple[str, ...]]:
    """The probe's prompts by category: BrainDiVE's five, the phantom's five, or the user's own."""
    if probe.prompts == "paper":
        return PAPER_PROMPTS
    return phantom_prompts() if probe.prompts == "phantom" else probe.prompts


def phantom_prompts() -> dict[str, tuple[str, ...]]:
    """Prompts by region of the paper: `a photo of KIND` for the kinds of its concepts' drawings.

    A kind that two regions share (a person is a head and a body) tells nothing and is left out. A concept that has no kind of its
    own then (heads) is asked for by its nouns, which belong to it alone.
    """
    concepts = [concept for concept in load_vocabulary().concepts if concept.roi in PAPER_ROIS]
    owners = Counter(kind for roi in PAPER_ROIS for kind in {kind for one in concepts if one.roi == roi for kind in _kinds(one)})
    prompts: dict[str, list[str]] = {roi: [] for roi in PAPER_ROIS}
    for concept in concepts:
        own = [kind for kind in _kinds(concept) if owners[kind] == 1]
        prompts[concept.roi] += [f"{OPENINGS[0]} {word}" for word in own or concept.nouns]
    return {roi: tuple(dict.fromkeys(texts)) for roi, texts in prompts.items()}


def _kinds(concept: Concept) -> list[str]:
    return list(dict.fromkeys(kind for subcategory in concept.subcategories for kind in kinds_of(subcategory)))
