"""What was planted, as files beside a phantom's data, and reading it back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scuba_ray.errors import DataError
from scuba_ray.phantom.concepts import Concept, Vocabulary
from scuba_ray.phantom.subject import NUISANCES, VoxelTruth

TRUTH = pa.schema(
    [
        ("voxel_id", pa.int64()),
        ("voxel_class", pa.string()),
        ("concept", pa.string()),
        ("concepts", pa.list_(pa.string())),
        ("companion", pa.string()),
        ("roi", pa.string()),
        ("noise_ceiling", pa.float32()),
        ("terms", pa.list_(pa.string())),
        ("weights", pa.list_(pa.float32())),
    ]
)
"""`concept` is the first of `concepts`, null for broad voxels (which have all of their region's), nuisance and null voxels.
`weights` go with `terms`: the concepts, or for nuisance voxels size, luminance and contrast. `noise_ceiling` is the true one."""


TRUTH_FILES = ("truth.parquet", "concepts.json", "other_drawings.json")


def write_truth(folder: Path, truths: list[VoxelTruth], vocabulary: Vocabulary) -> None:
    """Write truth.parquet, concepts.json and, of drawings that belong to no concept, other_drawings.json."""
    rows = [
        {
            "voxel_id": voxel,
            "voxel_class": truth.voxel_class,
            "concept": None if truth.voxel_class == "broad" else next(iter(truth.concepts), None),
            "concepts": list(truth.concepts),
            "companion": truth.companion,
            "roi": truth.roi,
            "noise_ceiling": truth.noise_ceiling,
            "terms": list(NUISANCES if truth.voxel_class == "nuisance" else truth.concepts),
            "weights": list(truth.weights),
        }
        for voxel, truth in enumerate(truths)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH), folder / "truth.parquet")
    concepts = {
        concept.name: {
            "roi": concept.roi,
            "subcategories": list(concept.subcategories),
            "nouns": list(concept.nouns),
            "drawings": list(concept.drawings),
        }
        for concept in vocabulary.concepts
    }
    for name, value in (("concepts.json", concepts), ("other_drawings.json", vocabulary.others)):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def has_truth(folder: str | Path) -> bool:
    """Whether a data set says what was planted in it. Only phantoms do, and they lie on a disk."""
    return (Path(folder).expanduser() / "truth.parquet").is_file()


def read_truth(folder: str | Path) -> tuple[pa.Table, Vocabulary]:
    """Read truth.parquet and concepts.json of a phantom.

    Raises
    ------
    DataError
        If either is missing or damaged.
    """
    path = Path(folder).expanduser()
    try:
        truth = pq.read_table(path / "truth.parquet").select(TRUTH.names).cast(TRUTH)
        known = json.loads((path / "concepts.json").read_text(encoding="utf-8"))
        others = json.loads((path / "other_drawings.json").read_text(encoding="utf-8"))
        concepts = tuple(
            Concept(name, own["roi"], tuple(own["subcategories"]), tuple(own["drawings"]), tuple(own["nouns"]))
            for name, own in known.items()
        )
        return truth, Vocabulary(concepts, tuple(others))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"the truth of the phantom in {path} cannot be read: {error}") from error
