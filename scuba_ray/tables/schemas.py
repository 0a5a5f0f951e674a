"""The tables that travel between steps: named Arrow schemas and their key columns.

They are a contract with users' notebooks: columns are added, never renamed. Embeddings and weights have one row per image or
voxel and a list of fixed length `D` per row; since `D` belongs to the backbone, schemas that hold one are functions of it.
"""

from __future__ import annotations

import pyarrow as pa

from scuba_ray.tables.image_schemas import IMAGES, REQUESTS, SYNTHESES
from scuba_ray.tables.response_schemas import RESPONSES

PARTITIONS = 5
"""Disjoint parts of the bank, after the paper's five draws. METHOD: the published draws overlap, ours do not."""
WHOLE_BANK = -1
"""Value of `partition` for the projection on all partitions together."""

SIGNIFICANT = 0.05
"""Level of p, and false-discovery rate q, below which something counts as found."""

KEYS: dict[str, tuple[str, ...]] = {
    "responses": ("subject", "voxel_id"),
    "embeddings": ("subject", "backbone", "stimulus_id"),
    "pictures": ("collection", "image_id"),
    "admitted": ("collection", "image_id"),
    "bank": ("backbone", "image_id"),
    "fits": ("subject", "backbone", "voxel_id"),
    "voxels": ("subject", "backbone", "voxel_id"),
    "projections": ("subject", "backbone", "voxel_id", "partition"),
    "captions": ("subject", "backbone", "voxel_id", "partition", "method", "rank"),
    "scores": ("subject", "backbone", "voxel_id", "partition", "method", "rank", "judge"),
    "bands": ("subject", "backbone", "voxel_id", "bands"),
    "audits": ("subject", "backbone", "voxel_id", "partition"),
    "nearest_pictures": ("backbone", "image_id"),
    "descriptions": ("backbone", "image_id", "model"),
    **dict.fromkeys(("requests", "syntheses", "images"), ("subject", "backbone", "target", "method", "sample")),
}

QUARANTINE = pa.schema(
    [
        pa.field("step", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Rows that could not be computed, of every step, with the reason in words."""


def _vector(value: pa.DataType, dim: int) -> pa.DataType:
    return pa.list_(value, dim)


def embeddings_schema(dim: int) -> pa.Schema:
    """Stimulus embeddings, raw (un-normalised) with their L2 norm. `split` is `train` or `test`."""
    return pa.schema(
        [
            ("subject", pa.string()),
            ("backbone", pa.string()),
            ("stimulus_id", pa.string()),
            ("embedding", _vector(pa.float16(), dim)),
            ("norm", pa.float32()),
            ("split", pa.string()),
        ]
    )


def bank_schema(dim: int) -> pa.Schema:
    """One shard of the bank; rows sorted by (partition, image_id)."""
    return pa.schema(
        [
            ("backbone", pa.string()),
            ("image_id", pa.string()),
            ("embedding", _vector(pa.float16(), dim)),
            ("norm", pa.float32()),
            ("source", pa.string()),
            ("uri", pa.string()),
            ("partition", pa.uint8()),
        ]
    )


def voxels_schema(dim: int) -> pa.Schema:
    """Fitted voxels. `vertex` for surfaces, `i, j, k` for volumes; scores are null where they cannot be computed."""
    return pa.schema(
        [
            ("subject", pa.string()),
            ("backbone", pa.string()),
            ("voxel_id", pa.int64()),
            ("hemi", pa.string()),
            ("vertex", pa.int32()),
            ("i", pa.int32()),
            ("j", pa.int32()),
            ("k", pa.int32()),
            ("xyz", _vector(pa.float32(), 3)),
            ("rois", pa.list_(pa.string())),
            ("weight", _vector(pa.float32(), dim)),
            ("bias", pa.float32()),
            ("alpha", pa.float32()),
            ("alpha_at_edge", pa.bool_()),
            ("r2", pa.float32()),
            ("r", pa.float32()),
            ("noise_ceiling", pa.float32()),
            ("r2_normalised", pa.float32()),
            ("p", pa.float32()),
            ("q", pa.float32()),
            ("split_half", pa.float32()),
            ("status", pa.string()),
            ("bad_trials", pa.int32()),
        ]
    )


def fits_schema(dim: int) -> pa.Schema:
    """What `fit` writes, voxels chunk by chunk: `voxels` without `q`, which needs the p of all of a subject's voxels at once."""
    schema = voxels_schema(dim)
    return schema.remove(schema.get_field_index("q"))


def projections_schema(dim: int) -> pa.Schema:
    """Projected embeddings, one row per partition and one (partition -1) for the whole bank.

    `certainty` says how `missing_mass` is known: `exact` (nothing is left out), `certified` (a bound, from an exact index) or
    `estimated` (from an approximate one). `half_agreement` is a property of the voxel, the same in each of its rows.
    """
    return pa.schema(
        [
            ("subject", pa.string()),
            ("backbone", pa.string()),
            ("voxel_id", pa.int64()),
            ("partition", pa.int32()),
            ("embedding", _vector(pa.float32(), dim)),
            ("cos_before_after", pa.float32()),
            ("n_eff", pa.float32()),
            ("bank_agreement", pa.float32()),
            ("half_agreement", pa.float32()),
            ("nearest_ids", pa.list_(pa.string())),
            ("nearest_cos", pa.list_(pa.float32())),
            ("missing_mass", pa.float32()),
            ("certainty", pa.string()),
        ]
    )


PICTURES = pa.schema(
    [("collection", pa.string()), ("image_id", pa.string()), ("uri", pa.string()), ("bytes", pa.int64()), ("digest", pa.string())]
)
"""The pictures a bank's collection lists (`pictures`), and those that are no duplicates (`admitted`)."""


CAPTIONS = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        ("partition", pa.int32()),
        ("method", pa.string()),
        ("rank", pa.int32()),
        ("caption", pa.string()),
        ("logprob", pa.float32()),
        ("nouns", pa.list_(pa.string())),
        ("share", pa.float32()),
        ("candidates", pa.list_(pa.string())),
        ("candidate_scores", pa.list_(pa.float32())),
    ]
)
"""`candidates` are the sentences that were considered, best first, and `candidate_scores` what they were ranked by: mean
log-probability of a beam, or predicted drive of a re-ranked caption or of a concept's. `share` is of the mass, for rows of
several concepts."""


SCORES = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        ("partition", pa.int32()),
        ("method", pa.string()),
        ("rank", pa.int32()),
        ("judge", pa.string()),
        ("caption", pa.string()),
        ("heldout_r", pa.float32()),
        ("drive_percentile", pa.float32()),
        ("ceiling_fraction", pa.float32()),
        ("partition_agreement", pa.float32()),
        ("images", pa.int32()),
    ]
)
"""Captions and controls judged on `images` held-out images. `heldout_r` is Spearman's correlation, `ceiling_fraction` that over
the square root of the noise ceiling, `drive_percentile` (0 to 100) needs weights in the judge's space."""


BANDS = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        ("bands", pa.string()),
        ("r2_joint", pa.float32()),
        ("r2_first", pa.float32()),
        ("r2_second", pa.float32()),
        ("unique_first", pa.float32()),
        ("unique_second", pa.float32()),
        ("shared", pa.float32()),
        ("p_unique_first", pa.float32()),
        ("p_unique_second", pa.float32()),
        ("weight_first", pa.float32()),
        ("alpha", pa.float32()),
        ("explained_by_low_level", pa.bool_()),
    ]
)
"""Banded fits. The first set is the backbone's image embedding, the second is named by `bands`: `low-level` or `caption`. R2 are
of test images; `weight_first` is the first set's band weight, the second has the rest; `stages/bands.py` has the flag's rule."""


def nearest_pictures_schema(dim: int) -> pa.Schema:
    """The bank's pictures that are among the nearest of some voxel, each once: rows of the bank without their partition."""
    schema = bank_schema(dim)
    return schema.remove(schema.get_field_index("partition"))


DESCRIPTIONS = pa.schema(
    [
        ("backbone", pa.string()),
        ("image_id", pa.string()),
        ("model", pa.string()),
        ("caption", pa.string()),
        ("nouns", pa.list_(pa.string())),
    ]
)
"""What `model` says of a picture on its own: the run's captioner on the picture's embedding, or an image-to-text model."""


AUDITS = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        ("partition", pa.int32()),
        ("missing_mass", pa.float32()),
        ("true_missing_mass", pa.float32()),
        ("cosine", pa.float32()),
    ]
)
"""A sample of the projections whose `missing_mass` is estimated, beside the exact projection: the share of the softmax mass that
is really missing, and the cosine of both."""


def schema_for(table: str, dim: int) -> pa.Schema:
    """The schema of `table` for embeddings of length `dim`.

    Raises
    ------
    KeyError
        If there is no such table.
    """
    schemas = {
        "responses": RESPONSES,
        "embeddings": embeddings_schema(dim),
        "bank": bank_schema(dim),
        "pictures": PICTURES,
        "admitted": PICTURES,
        "fits": fits_schema(dim),
        "voxels": voxels_schema(dim),
        "projections": projections_schema(dim),
        "captions": CAPTIONS,
        "scores": SCORES,
        "bands": BANDS,
        "audits": AUDITS,
        "nearest_pictures": nearest_pictures_schema(dim),
        "descriptions": DESCRIPTIONS,
        "requests": REQUESTS,
        "syntheses": SYNTHESES,
        "images": IMAGES,
    }
    return schemas[table]
