"""The packaged models read scenes of a seed that neither their training nor their cards saw."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.models.clipcap import PrefixCaptioner
from scuba_ray.models.files import packaged
from scuba_ray.phantom.clip_scores import score_clip
from scuba_ray.phantom.scenes import load_drawings
from scuba_ray.phantom.train_captioner import score_captioner

SEED = 4711
FLOORS = {"single R@1": 0.65, "single R@5": 0.95, "pair R@1": 0.90, "kind": 0.80, "concept": 0.80}


@pytest.fixture(scope="module")
def drawings():
    return load_drawings()


@pytest.mark.parametrize("name", ["clip", "judge"])
def test_backbone_reads_held_out_scenes(name, drawings):
    import open_clip

    directory = packaged(name)
    model = open_clip.create_model(f"local-dir:{directory}").eval()
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    scores = score_clip(model, drawings, tokenizer, "cpu", singles=300, seed=SEED)
    print(name, scores)
    assert {key: value for key, value in scores.items() if value < FLOORS[key]} == {}


def test_captioner_names_drawings_of_held_out_scenes(drawings):
    backbone = OpenClipBackbone(name="clip", model="phantom:clip").load("cpu")
    captioner = PrefixCaptioner("phantom:captioner").load("cpu")
    captioner.check_backbone(backbone)
    scores = score_captioner(captioner, backbone, drawings, "cpu", scenes=60, seed=SEED)
    print(scores)
    assert scores["any: one named"] >= 0.6


def test_judge_is_another_network():
    clip, judge = (OpenClipBackbone(name=name, model=f"phantom:{name}") for name in ("clip", "judge"))
    assert clip.fingerprint != judge.fingerprint
    one, other = (net.load("cpu")._network.visual for net in (clip, judge))
    assert type(one) is not type(other)


def test_names_and_kinds_are_told_apart_by_text(drawings):
    backbone = OpenClipBackbone(name="clip", model="phantom:clip").load("cpu")
    with torch.inference_mode():
        unit = torch.nn.functional.normalize(backbone.embed_texts(["tiger", "a mammal", "mammal", "hamburger"]), dim=1)
    likeness = unit @ unit.T
    assert likeness[0, 2] > likeness[3, 2]
