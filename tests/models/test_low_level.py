"""The low-level baseline behind the seam of backbones."""

from __future__ import annotations

import pickle

import pytest
import torch

from scuba_ray.config import BackboneConfig
from scuba_ray.core.low_level import NAMES, SIDE
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import make_backbone
from tests.models.tiny import picture


def test_pictures_of_any_shape_become_features_without_weights() -> None:
    backbone = make_backbone(BackboneConfig(name="low-level", model="pixels:low-level"))
    loaded = pickle.loads(pickle.dumps(backbone)).load("cpu")
    pixels_B3HW = torch.stack([loaded.preprocess(picture(seed)) for seed in range(2)])
    assert pixels_B3HW.shape == (2, 3, SIDE, SIDE) and 0 <= float(pixels_B3HW.min()) <= float(pixels_B3HW.max()) <= 1
    features_BD = loaded.embed_images(pixels_B3HW)
    assert features_BD.shape == (2, loaded.dim) == (2, len(NAMES)) and not torch.equal(features_BD[0], features_BD[1])
    assert loaded.scaling == "standard" and loaded.fingerprint == backbone.fingerprint and len(loaded.fingerprint) == 16


def test_texts_and_other_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="no text tower"):
        make_backbone(BackboneConfig(name="low-level", model="pixels:low-level")).embed_texts(["a fox"])
    with pytest.raises(ConfigError, match="pixels:low-level, got 'pixels:edges'"):
        make_backbone(BackboneConfig(name="low-level", model="pixels:edges"))
