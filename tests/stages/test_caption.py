"""What the fingerprint of captions covers: what can change a caption, and nothing else. Voxels draw captions for themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.config import CaptionConfig
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.protocols import Resources
from scuba_ray.stages.caption import Caption


def made_of(**settings: Any) -> dict[str, Any]:
    stage = Caption(
        subject="s", backbone="clip", captioner=SimpleNamespace(fingerprint="f"), run=None,  # type: ignore[arg-type]
        settings=CaptionConfig(model="m", **settings), resources=Resources(),
    )  # fmt: skip
    return dict(stage.fingerprint())


def test_the_published_rule_is_known_by_its_own_settings_alone() -> None:
    published = {"captioner": "f", "method": "brainscuba", "beams": 5, "max_tokens": 67, "temperature": 1.0, "stop": "."}
    assert made_of() == published
    assert made_of(batch=7, memory_gib=2, chunk=3, top_p=0.5, samples=9, seed=4) == published


def test_other_rules_are_not_known_by_beams() -> None:
    assert made_of(rule="greedy") == made_of(rule="greedy", beams=9, top_p=0.5, seed=4) != made_of(beams=1)
    assert made_of(rule="nucleus") == made_of(rule="nucleus", beams=9)


@pytest.mark.parametrize("change", [{"top_p": 0.5}, {"samples": 9}, {"seed": 1}, {"temperature": 2.0}, {"precision": "float16"}])
def test_what_changes_a_sample_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert made_of(rule="nucleus") != made_of(rule="nucleus", **change)


def test_a_drawn_caption_does_not_depend_on_the_chunk() -> None:
    settings = CaptionConfig(model="phantom:captioner", rule="nucleus", samples=3, temperature=2.0, max_tokens=8, batch=5)
    captioner = make_captioner(settings)
    stage = Caption(
        subject="s", backbone="clip", captioner=captioner, run=None,  # type: ignore[arg-type]
        settings=settings, resources=Resources(),
    )  # fmt: skip
    embedding_VD = np.random.default_rng(0).normal(size=(4, captioner.dim)).astype(np.float32)
    rows = pa.table(
        {
            "voxel_id": pa.array([1, 1, 2, 2, 3, 3, 4, 4], pa.int64()),
            "partition": pa.array([-1, 0] * 4, pa.int8()),
            "embedding": pa.array(list(embedding_VD.repeat(2, axis=0)), pa.list_(pa.float32(), captioner.dim)),
        }
    )
    whole = stage(rows).table
    order = [5, 0, 3]
    some = stage(rows.take(order)).table
    assert some["candidates"].to_pylist() == whole["candidates"].take(order).to_pylist()
    drawn = whole["candidates"].to_pylist()
    assert all(drawn[row] != drawn[row + 1] for row in range(0, 8, 2)), "partitions of a voxel draw for themselves"
