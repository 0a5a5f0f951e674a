"""How recognisable the phantom diffusion model's pictures are, by a network that had no part in training it.

    python -m scuba_ray.phantom.diffusion_scores scuba_ray/phantom/weights/diffusion

Pictures of drawings of the paper's five regions are asked for by name, and read by the judge: which of the five categories (the
phantom's probe), and which of the names that were asked for.
"""

from __future__ import annotations

import sys
from random import Random

import torch
import torch.nn.functional as F
from PIL import Image

from scuba_ray.config import DiffusionConfig, TextRouteConfig, backbone_config
from scuba_ray.core.probe import zero_shot
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.diffusion import TextToImage
from scuba_ray.phantom.concepts import PAPER_ROIS, load_vocabulary
from scuba_ray.phantom.phrases import OPENINGS
from scuba_ray.phantom.probe import phantom_prompts
from scuba_ray.phantom.seeds import HELD_OUT
from scuba_ray.protocols import ImageRequest


def score_diffusion(model: str, *, names: int = 24, steps: int = 25, seed: int = 0) -> dict[str, float]:
    """Share of pictures that the judge puts into the right one of five categories, or knows by name among all that were drawn.

    Parameters
    ----------
    model : str
        `phantom:diffusion` or a directory.
    names : int
        Drawings asked for of each region, one picture each.
    steps : int
        Sampling steps.
    seed : int
        Place in the range of held-out seeds.

    Returns
    -------
    scores : dict
        `category` (chance .2) and `category REGION` of each, by the best prompt; `name` (chance 1 / (5 * names)).
    """
    backbone = backbone_config("phantom:clip")
    maker = TextToImage(DiffusionConfig(model=model, steps=steps, batch=24), TextRouteConfig(), make_backbone(backbone)).load(
        "cpu"
    )
    draw, concepts = Random(HELD_OUT[seed]), load_vocabulary().concepts
    known = {roi: sorted({name for one in concepts if one.roi == roi for name in one.drawings}) for roi in PAPER_ROIS}
    asked = [(roi, name) for roi in PAPER_ROIS for name in draw.sample(known[roi], names)]
    prompts = [f"{OPENINGS[0]} {name}" for _, name in asked]
    made = maker.images([ImageRequest(prompt, HELD_OUT[seed + place]) for place, prompt in enumerate(prompts)])
    judge = make_backbone(backbone_config("phantom:judge")).load("cpu")
    pictures = torch.stack([judge.preprocess(Image.fromarray(one.pixels_HW3)) for one in made])
    picture_BD = F.normalize(judge.embed_images(pictures), dim=1)
    probe = phantom_prompts()
    text_PD = F.normalize(judge.embed_texts([text for texts in probe.values() for text in texts]), dim=1)
    category_P = torch.tensor([place for place, texts in enumerate(probe.values()) for _ in texts])
    answer_B, _ = zero_shot(picture_BD, text_PD, category_P)
    right = [list(probe)[answer] == roi for answer, (roi, _) in zip(answer_B.tolist(), asked, strict=True)]
    name_B = (picture_BD @ F.normalize(judge.embed_texts(prompts), dim=1).T).argmax(1)
    of_region = {roi: [hit for hit, (own, _) in zip(right, asked, strict=True) if own == roi] for roi in PAPER_ROIS}
    return {
        "category": sum(right) / len(right),
        **{f"category {roi}": sum(hits) / len(hits) for roi, hits in of_region.items()},
        "name": float((name_B == torch.arange(len(asked))).double().mean()),
    }


if __name__ == "__main__":
    for score, value in score_diffusion(sys.argv[1]).items():
        print(f"| {score} | {value:.2f} |")
