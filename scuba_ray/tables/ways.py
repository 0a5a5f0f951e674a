"""Values of the key column `method`: the ways in which a voxel can come to a caption or image, and what they are held against."""

METHOD = "brainscuba"
"""BrainSCUBA's own."""
RERANKED = "brainscuba-rerank"
"""Of all sentences written for a voxel, the one its own model predicts the largest response to."""
LAVCA = "lavca"
"""From keywords of the nearest pictures' descriptions."""
CONCEPTS = "brainscuba-concepts"
"""One per cluster of the nearest pictures: in `captions` these are rows of `brainscuba` of rank 1 and on, here taken together."""

SHUFFLED = "shuffled"
"""Control: the caption of another voxel, drawn at random."""
WITHIN_ROI = "shuffled-within-roi"
"""Control: the caption of another voxel of the same regions: what knowing the region alone is worth."""
MOST_FREQUENT = "most-frequent"
"""Control: the caption that most voxels have."""
TOP_IMAGE = "top-image"
"""Control: the caption of the one nearest bank image, made like other captions."""

CONTROLS = (WITHIN_ROI, SHUFFLED, MOST_FREQUENT, TOP_IMAGE)
"""Captions that were not made as a voxel's own."""

BRAINDIVE = "braindive"
"""An image made by the gradient of voxels; images made from captions have the caption's method."""
NATURAL_TOP_100 = "natural-top-100"
"""Reference: the hundred of the subject's own stimuli that drove a target's voxels most, by measured response."""
NATURAL_TOP_1_PERCENT = "natural-top-1%"
"""Reference: the most driving hundredth of them."""
NATURAL = (NATURAL_TOP_100, NATURAL_TOP_1_PERCENT)
"""Stimuli, not images that were made."""
