"""The probe in the phantom's words tells its five regions apart, by both networks, on scenes that nobody was trained on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from scuba_ray.core.probe import zero_shot
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.models.probe_prompts import PAPER_PROMPTS
from scuba_ray.phantom.concepts import PAPER_ROIS, load_vocabulary
from scuba_ray.phantom.probe import phantom_prompts
from scuba_ray.phantom.scenes import load_drawings, render, sample_scenes


def test_prompts_are_of_one_category_each() -> None:
    prompts = phantom_prompts()
    assert tuple(prompts) == PAPER_ROIS
    counts = Counter(text for texts in prompts.values() for text in texts)
    assert set(counts.values()) == {1} and min(map(len, prompts.values())) > 1
    assert "a photo of person" not in counts, "heads and bodies share it"


def test_the_paper_probe_has_the_published_counts() -> None:
    assert {name: len(texts) for name, texts in PAPER_PROMPTS.items()} == {
        **{"faces": 9, "bodies": 6, "places": 12, "food": 1, "words": 8}
    }
    assert len({text for texts in PAPER_PROMPTS.values() for text in texts}) == 36


@pytest.mark.parametrize("network", ["clip", "judge"])
def test_drawings_are_classified_into_their_region(network: str) -> None:
    drawings, regions = load_drawings(), list(PAPER_ROIS)
    roi_of = {name: one.roi for one in load_vocabulary().concepts for name in one.drawings if one.roi in regions}
    generator = torch.Generator().manual_seed(77)
    known = torch.tensor([row for row, name in enumerate(drawings.names) if name in roi_of])
    shown = known[torch.randint(len(known), (200,), generator=generator)]
    drawing_BO = torch.full((200, 3), -1)
    drawing_BO[:, 0] = shown
    pictures = render(sample_scenes(generator, drawing_BO), drawings).permute(0, 2, 3, 1).numpy()
    backbone = OpenClipBackbone(network, f"phantom:{network}").load("cpu")
    pixels = np.stack([backbone.preprocessing(Image.fromarray(picture)) for picture in pictures])
    images = unit_and_norm(backbone.embed_images(backbone.normalise(torch.from_numpy(pixels))))[0]
    prompts = phantom_prompts()
    texts = unit_and_norm(backbone.embed_texts([text for of in prompts.values() for text in of]))[0]
    category = torch.tensor([index for index, of in enumerate(prompts.values()) for _ in of])
    truth = torch.tensor([regions.index(roi_of[drawings.names[row]]) for row in shown.tolist()])
    best, mean = zero_shot(images, texts, category)
    assert (best == truth).float().mean() > 0.95
    assert (mean == truth).float().mean() > 0.6
