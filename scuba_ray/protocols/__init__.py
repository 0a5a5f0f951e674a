"""Every seam: what a part must offer to take part, and nothing about how. `work`, `models` and `data` have a page each.

Adding a backbone, captioner, dataset, ... is one new file plus one line in `registry.py`; the conformance tests of the seam
then run on it. Nothing heavy is imported here: torch, pyarrow and Pillow appear in annotations only.

Shapes: `S` stimuli, `T` trials, `D` embedding, `V` voxels, `K` bank images, `B` batch.
"""

from scuba_ray.protocols.data import (
    Analysis,
    Conditional,
    Described,
    Geometry,
    Grid,
    Gridded,
    ImageSource,
    Pictures,
    SubjectDataset,
)
from scuba_ray.protocols.models import (
    LOW_LEVEL,
    Backbone,
    CaptionBeam,
    Captioner,
    DifferentiableBackbone,
    ImageRequest,
    MadeImage,
    Scaling,
    Synthesizer,
)
from scuba_ray.protocols.work import (
    BadRow,
    Chunk,
    ChunkTask,
    Engine,
    GatherStage,
    GatherTask,
    Holding,
    Node,
    PreparedStage,
    Receipt,
    Resources,
    Stage,
    StageOutput,
)

__all__ = [
    "LOW_LEVEL",
    "Analysis",
    "Backbone",
    "BadRow",
    "CaptionBeam",
    "Captioner",
    "Chunk",
    "ChunkTask",
    "Conditional",
    "Described",
    "DifferentiableBackbone",
    "Engine",
    "GatherStage",
    "GatherTask",
    "Geometry",
    "Grid",
    "Gridded",
    "Holding",
    "ImageRequest",
    "ImageSource",
    "MadeImage",
    "Node",
    "Pictures",
    "PreparedStage",
    "Receipt",
    "Resources",
    "Scaling",
    "Stage",
    "StageOutput",
    "SubjectDataset",
    "Synthesizer",
]
