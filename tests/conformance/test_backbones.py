"""What every backbone promises, held against each scheme of the registry that needs no download."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from scuba_ray.config import BackboneConfig
from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import Backbone
from scuba_ray.registry import SEAMS
from tests.models.tiny import WORDS, picture
from tests.study import TinyStudy

MODELS = {"local-dir": "local-dir:{tiny}", "phantom": "phantom:clip"}


def test_every_scheme_is_here_or_downloads() -> None:
    assert set(SEAMS["backbone"]) - set(MODELS) == {"open_clip", "pixels", "sentences"}, (
        "pixels has no text tower (tests/models/test_low_level.py), sentences no image tower (tests/models/test_sentences.py)"
    )


@pytest.fixture(scope="module", params=sorted(MODELS))
def unloaded(request: pytest.FixtureRequest, study: TinyStudy) -> Backbone:
    model = MODELS[request.param].format(tiny=study.folder / "backbone")
    return make_backbone(BackboneConfig(name="any", model=model))


@pytest.fixture(scope="module")
def loaded(unloaded: Backbone) -> Backbone:
    travelled: Backbone = pickle.loads(pickle.dumps(unloaded))
    return travelled.load("cpu")


def test_it_travels_without_weights_and_keeps_its_names(unloaded: Backbone, loaded: Backbone) -> None:
    assert len(pickle.dumps(unloaded)) < 20_000
    assert (loaded.name, loaded.dim, loaded.fingerprint) == ("any", unloaded.dim, unloaded.fingerprint)
    assert len(unloaded.fingerprint) == 16


def test_preprocessing_needs_no_weights_and_no_torch(unloaded: Backbone) -> None:
    pickled = pickle.dumps(unloaded.preprocessing)
    code = f"import pickle, sys; print(pickle.loads({pickled!r}) is not None, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
    pixels_3HW = unloaded.preprocessing(picture())
    assert pixels_3HW.dtype == np.uint8 and pixels_3HW.shape[0] == 3
    normalised_B3HW = unloaded.normalise(torch.from_numpy(pixels_3HW)[None])
    assert normalised_B3HW.dtype == torch.float32 and torch.equal(normalised_B3HW[0], unloaded.preprocess(picture()))


def test_images_and_texts_share_a_space_and_are_raw(loaded: Backbone) -> None:
    pixels_B3HW = torch.stack([loaded.preprocess(picture(seed)) for seed in range(4)])
    image_BD, text_BD = loaded.embed_images(pixels_B3HW), loaded.embed_texts(WORDS[:3])
    assert image_BD.shape == (4, loaded.dim) and text_BD.shape == (3, loaded.dim)
    assert image_BD.dtype == text_BD.dtype == torch.float32
    assert bool(image_BD.isfinite().all()) and bool(text_BD.isfinite().all())
    assert bool((image_BD.norm(dim=1) - 1).abs().min() > 1e-3), "not normalised"


def test_a_row_does_not_depend_on_the_rows_beside_it(loaded: Backbone) -> None:
    pixels_B3HW = torch.stack([loaded.preprocess(picture(seed)) for seed in range(4)])
    alone = torch.cat([loaded.embed_images(one[None]) for one in pixels_B3HW])
    torch.testing.assert_close(loaded.embed_images(pixels_B3HW), alone, rtol=1e-4, atol=1e-5)


def test_it_tells_pictures_apart(loaded: Backbone) -> None:
    image_BD = loaded.embed_images(torch.stack([loaded.preprocess(picture(seed)) for seed in range(2)]))
    assert not torch.equal(image_BD[0], image_BD[1])
