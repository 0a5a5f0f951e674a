"""The steps of a run that make pictures: what to make, the pictures of each method, and what their judges say."""

from __future__ import annotations

from dataclasses import dataclass

from scuba_ray.config import RunConfig
from scuba_ray.stages.study import Study
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder


@dataclass(frozen=True)
class Synthesis:
    """Pictures of a subject's regions and voxels, each step a stage completed for one unit."""

    config: RunConfig
    study: Study
    folder: RunFolder
    steps: Steps
