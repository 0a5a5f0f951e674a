"""The packaged diffusion model loads as diffusers stores models, is small, and draws what an independent network recognises."""

from __future__ import annotations

import json

from diffusers import DiffusionPipeline, StableDiffusionPipeline

from scuba_ray.models.files import packaged
from scuba_ray.phantom.diffusion_scores import score_diffusion


def test_it_is_a_small_diffusers_directory_that_names_no_other_place():
    directory = packaged("diffusion")
    assert sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) <= 14_000_000
    assert isinstance(DiffusionPipeline.from_pretrained(directory), StableDiffusionPipeline)
    for config in directory.rglob("config.json"):
        assert not json.loads(config.read_text()).get("_name_or_path")


def test_the_judge_recognises_what_it_draws():
    scores = score_diffusion("phantom:diffusion", names=10, steps=15, seed=47)
    print(scores)
    assert scores["category"] >= 0.6 and scores["name"] >= 0.2
