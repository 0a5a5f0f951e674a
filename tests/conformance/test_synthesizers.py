"""What every synthesizer promises, held against each name of the registry on a Stable Diffusion with random weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn.modules.module import register_module_forward_pre_hook

from scuba_ray.config import BackboneConfig
from scuba_ray.config.synthesis import DiffusionConfig, GradientRouteConfig, TextRouteConfig
from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.models.clip import make_backbone
from scuba_ray.protocols import ImageRequest, MadeImage, Synthesizer
from scuba_ray.registry import SEAMS, resolve
from tests.models.tiny_diffusion import SIDE, write_diffusion
from tests.study import TinyStudy


def _prompt(seed: int, _: int) -> ImageRequest:
    return ImageRequest(["a fox", "a bus", "a hat"][seed % 3], seed)


def _direction(seed: int, dim: int) -> ImageRequest:
    direction_D = np.random.default_rng(seed % 3).normal(size=dim).astype(np.float32)
    return ImageRequest("", seed, direction_D)


ROUTES: dict[str, tuple[TextRouteConfig | GradientRouteConfig, Callable[[int, int], ImageRequest]]] = {
    "text": (TextRouteConfig(guidance=3.0), _prompt),
    "gradient": (GradientRouteConfig(scale=10.0), _direction),
}
"""Settings of each route, and what may be asked of it: a request of this seed, for a backbone of this dimension."""


def test_every_registered_one_is_tested_here() -> None:
    assert set(ROUTES) == set(SEAMS["synthesizer"])


@dataclass(frozen=True)
class Maker:
    """Builds one route's synthesizer, and asks it."""

    name: str
    model: Path
    study: TinyStudy

    def unloaded(self, **settings: Any) -> Synthesizer:
        backbone = make_backbone(BackboneConfig(name="any", model=f"local-dir:{self.study.folder / 'backbone'}"))
        diffusion = DiffusionConfig(**{"model": str(self.model), "steps": 3, **settings})
        made: Synthesizer = resolve("synthesizer", self.name)(diffusion, ROUTES[self.name][0], backbone)
        return made

    def loaded(self, **settings: Any) -> Synthesizer:
        return self.unloaded(**settings).load("cpu")

    def requests(self, count: int) -> list[ImageRequest]:
        dim = make_backbone(BackboneConfig(name="any", model=f"local-dir:{self.study.folder / 'backbone'}")).dim
        return [ROUTES[self.name][1](seed, dim) for seed in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diffusion(tmp_path_factory.mktemp("synthesizers") / "tiny")


@pytest.fixture(scope="module", params=sorted(ROUTES))
def maker(request: pytest.FixtureRequest, model: Path, study: TinyStudy) -> Maker:
    return Maker(request.param, model, study)


@pytest.fixture(scope="module")
def synthesizer(maker: Maker) -> Synthesizer:
    travelled: Synthesizer = pickle.loads(pickle.dumps(maker.unloaded()))
    return travelled.load("cpu")


def difference(one: Sequence[MadeImage], other: Sequence[MadeImage]) -> int:
    stacked = [np.stack([image.pixels_HW3 for image in made]).astype(np.int16) for made in (one, other)]
    return int(np.abs(stacked[0] - stacked[1]).max())


def test_it_travels_without_weights_and_keeps_its_fingerprint(maker: Maker, synthesizer: Synthesizer) -> None:
    assert len(pickle.dumps(maker.unloaded())) < 20_000
    assert synthesizer.fingerprint == maker.unloaded().fingerprint and len(synthesizer.fingerprint) == 16
    assert int(synthesizer.fingerprint, 16) >= 0


def test_the_fingerprint_has_all_that_changes_a_picture_and_no_more(maker: Maker, tmp_path: Path) -> None:
    same = maker.unloaded().fingerprint
    assert maker.unloaded(batch=3, compile=True).fingerprint == same
    other = str(write_diffusion(tmp_path / "other", seed=1))
    changes = ({"steps": 4}, {"size": 64}, {"precision": "bfloat16"}, {"scheduler": "model"}, {"model": other})
    assert len({same, *(maker.unloaded(**change).fingerprint for change in changes)}) == 1 + len(changes)


def test_a_picture_is_an_array_with_its_time(maker: Maker, synthesizer: Synthesizer) -> None:
    made = synthesizer.images(maker.requests(3))
    assert len(made) == 3 and synthesizer.images([]) == []
    for image in made:
        assert image.pixels_HW3.shape == (SIDE, SIDE, 3) and image.pixels_HW3.dtype == np.uint8
        assert image.seconds > 0 and image.batch == 8 and not image.truncated
        assert np.ptp(image.pixels_HW3) > 50, "not one colour"


def test_the_same_seed_gives_the_same_picture_in_any_batch_order_and_company(maker: Maker, synthesizer: Synthesizer) -> None:
    requests = maker.requests(9)
    made = synthesizer.images(requests)
    assert difference(made, maker.loaded(batch=1).images(requests)) <= 1
    assert difference(made[:4], synthesizer.images(requests[3::-1])[::-1]) <= 1
    assert difference(made[8:], synthesizer.images(requests[8:])) <= 1


def test_another_seed_gives_another_picture(maker: Maker, synthesizer: Synthesizer) -> None:
    requests = maker.requests(7)
    first, other = synthesizer.images([requests[0], requests[6]])  # the same prompt or direction
    assert difference([first], [other]) > 5


def test_what_is_asked_for_shows(maker: Maker, synthesizer: Synthesizer) -> None:
    requests = maker.requests(2)
    instead = ImageRequest(requests[1].prompt, requests[0].seed, requests[1].direction_D)
    first, other = synthesizer.images([requests[0], instead])
    assert difference([first], [other]) > 1


def test_half_precision_and_another_size(maker: Maker) -> None:
    made = maker.loaded(precision="bfloat16", size=48, batch=2).images(maker.requests(2))
    assert {image.pixels_HW3.shape for image in made} == {(48, 48, 3)} and np.ptp(made[0].pixels_HW3) > 50


@contextmanager
def memory_for(pictures: int) -> Iterator[None]:
    """A machine whose memory ends where a UNet is given more."""

    def full(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, UNet2DConditionModel) and len(inputs[0]) > pictures:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = register_module_forward_pre_hook(full)
    try:
        yield
    finally:
        hook.remove()


def test_where_memory_ends_the_batch_is_halved_and_said(maker: Maker, synthesizer: Synthesizer) -> None:
    small = maker.loaded()
    with memory_for(4):
        made = small.images(maker.requests(3))
        assert {image.batch for image in made} <= {2, 4} and len({image.batch for image in made}) == 1
        assert small.images(maker.requests(1))[0].batch == made[0].batch
    assert difference(made, synthesizer.images(maker.requests(3))) <= 1
    with memory_for(0), pytest.raises(WorkerError, match="one picture at a time"):
        maker.loaded().images(maker.requests(1))


def test_a_model_that_cannot_be_had_is_said_before_anything_is_loaded(maker: Maker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory on this machine"):
        maker.unloaded(model=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="multiple of 8"):
        maker.unloaded(size=50)


def test_it_makes_pictures_in_silence(maker: Maker, capfd: pytest.CaptureFixture[str]) -> None:
    maker.loaded().images(maker.requests(1))
    assert capfd.readouterr() == ("", "")
