"""What every captioner promises, held against those that are on this machine."""

from __future__ import annotations

import pickle

import pytest
import torch

from scuba_ray.config import BackboneConfig, CaptionConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.clipcap import make_captioner
from scuba_ray.protocols import Backbone, Captioner
from tests.study import TinyStudy

PAIRS = {"directory": ("{folder}/captioner", "local-dir:{folder}/backbone"), "packaged": ("phantom:captioner", "phantom:clip")}


@pytest.fixture(scope="module", params=sorted(PAIRS))
def pair(request: pytest.FixtureRequest, study: TinyStudy) -> tuple[Captioner, Backbone]:
    """A captioner and the backbone it reads, neither loaded."""
    captioner, backbone = (text.format(folder=study.folder) for text in PAIRS[request.param])
    config = CaptionConfig(model=captioner, max_tokens=8)
    return make_captioner(config), make_backbone(BackboneConfig(name="any", model=backbone))


def test_it_travels_without_weights_and_accepts_its_backbone(pair: tuple[Captioner, Backbone]) -> None:
    captioner, backbone = pair
    assert len(pickle.dumps(captioner)) < 20_000
    assert captioner.dim == backbone.dim and len(captioner.fingerprint) == 16
    captioner.check_backbone(backbone)


def test_it_refuses_another_backbone(pair: tuple[Captioner, Backbone]) -> None:
    captioner, backbone = pair
    other = make_backbone(BackboneConfig(name="judge", model="phantom:judge"))
    assert other.fingerprint != backbone.fingerprint
    with pytest.raises(ConfigError, match="judge"):
        captioner.check_backbone(other)


def test_captions_come_in_order_best_first_and_alone_as_together(pair: tuple[Captioner, Backbone]) -> None:
    captioner = pickle.loads(pickle.dumps(pair[0])).load("cpu")
    embedding_VD = torch.randn(5, captioner.dim, generator=torch.Generator().manual_seed(0)) * 3
    together = captioner.captions(embedding_VD)
    assert len(together) == 5
    for embedding_D, beams in zip(embedding_VD, together, strict=True):
        scores = [beam.logprob for beam in beams]
        assert beams and scores == sorted(scores, reverse=True) and scores[0] <= 0
        alone = captioner.captions(embedding_D[None])[0]
        assert [beam.text for beam in alone] == [beam.text for beam in beams]
        assert [beam.logprob for beam in alone] == pytest.approx(scores, rel=1e-4, abs=1e-5)
    named = captioner.captions(embedding_VD, [f"voxel {number}" for number in range(5)])
    assert [[beam.text for beam in beams] for beams in named] == [[beam.text for beam in beams] for beams in together]
    assert captioner.captions(embedding_VD[:0]) == []
