"""Schemas of responses: single trials between the two passes of preparation, and what comes of them."""

from __future__ import annotations

import pyarrow as pa


def sessions_schema(values: pa.DataType) -> pa.Schema:
    """Standardised single trials of one session, a row per voxel in the order of `voxels()`, of the float type `values`.

    Scratch of a run, deleted when `responses` are complete: no contract with notebooks. `responses` are in the order of
    `trials()`; `bad_trials` of them are missing and 0; `varies` says whether the session's training trials differ, and
    `training_trials` how many there are.
    """
    return pa.schema(
        [
            ("subject", pa.string()),
            ("session", pa.int32()),
            ("voxel_id", pa.int64()),
            ("responses", pa.list_(values)),
            ("bad_trials", pa.int32()),
            ("varies", pa.bool_()),
            ("training_trials", pa.int32()),
        ]
    )


RESPONSES = pa.schema(
    [
        ("subject", pa.string()),
        ("voxel_id", pa.int64()),
        ("responses", pa.list_(pa.float32())),
        ("noise_ceiling", pa.float32()),
        ("bad_trials", pa.int32()),
        ("status", pa.string()),
    ]
)
"""Responses as a fit reads them, a row per voxel in the order of `voxels()`. `responses` has a z-score per stimulus, averaged
over its repeats, in the order of `stimuli()`; the data set's fingerprint, which is part of the table's, stands for both."""
