"""Schemas of images that are made: what is to be made, what came of it, and what its judges say."""

from __future__ import annotations

import pyarrow as pa

_TARGET = [
    pa.field("subject", pa.string()),
    pa.field("backbone", pa.string()),
    pa.field("target", pa.string()),
    pa.field("method", pa.string()),
    pa.field("sample", pa.int32()),
]

REQUESTS = pa.schema(
    [
        *_TARGET,
        ("kind", pa.string()),
        ("prompt", pa.string()),
        ("noun", pa.string()),
        ("seed", pa.int64()),
        ("voxels", pa.list_(pa.int64())),
    ]
)
"""Images to be made, one row each. `target` is a region's name, `voxel ID`, a query's text, or `REGION part N` (`part` N - 1 of
the analysis `clusters`), and `kind` (roi, voxel, query, part) says which; `voxels` are the fitted voxels that stand for it.
`noun` is what the prompt of a region or part was made of."""

SYNTHESES = pa.schema(
    [
        *_TARGET,
        ("kind", pa.string()),
        ("prompt", pa.string()),
        ("noun", pa.string()),
        ("seed", pa.int64()),
        ("png", pa.binary()),
        ("seconds", pa.float32()),
        ("batch", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)
"""Images as they were made, before anybody judged them. `seconds` is an image's share of its batch's time, `batch` how many were
made together, `truncated` whether the text encoder could not read the whole prompt."""

IMAGES = pa.schema(
    [
        *_TARGET,
        ("kind", pa.string()),
        ("prompt", pa.string()),
        ("noun", pa.string()),
        ("seed", pa.int64()),
        ("png", pa.binary()),
        ("stimulus_id", pa.string()),
        ("predicted", pa.float32()),
        ("predicted_independent", pa.float32()),
        ("rank", pa.int32()),
        ("percentile", pa.float32()),
        ("percentile_independent", pa.float32()),
        ("natural_predicted", pa.float32()),
        ("natural_predicted_independent", pa.float32()),
        ("category", pa.string()),
        ("category_mean", pa.string()),
        ("category_own", pa.string()),
        ("category_own_mean", pa.string()),
        ("target_category", pa.string()),
        ("seconds", pa.float32()),
        ("batch", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)
"""Images and natural references with their judges.

`predicted` is the mean predicted response (z-scores) of the target's voxels by the captioned backbone's encoding model,
`predicted_independent` by that of `synthesize.judge`; for weights fitted elsewhere without a bias it counts as 0, so that only
differences between images hold. `rank` orders a target's images of one method by `predicted`, 0 first.
Percentiles (0 to 100) are among all of the subject's own stimuli, whose mean prediction is `natural_predicted`. `category` is the
independent judge's zero-shot answer by the best prompt of each category, `category_mean` by the mean over prompts,
`category_own...` the captioned backbone's; `target_category` is the one that the target belongs to. Natural rows have a
`stimulus_id` and no png."""
