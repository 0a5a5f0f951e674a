"""The text route on a Stable Diffusion and a FLUX of their real classes with random weights."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from scuba_ray.config import backbone_config
from scuba_ray.config.synthesis import DiffusionConfig, TextRouteConfig
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.models.clip import make_backbone
from scuba_ray.models.diffusion import TextToImage
from scuba_ray.protocols import ImageRequest, MadeImage
from tests.models.tiny_diffusion import CONTEXT, SIDE, tiny_pipeline, write_diffusion, write_flux

STEPS = 4
EIGHT = [ImageRequest(f"a {noun}", seed) for seed, noun in enumerate(["fox", "bus", "hat", "cow", "cup", "owl", "car", "pie"])]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diffusion(tmp_path_factory.mktemp("diffusion") / "tiny")


def unloaded(model: Path, guidance: float = 5.0, **settings: Any) -> TextToImage:
    config = DiffusionConfig(model=str(model), **{"steps": STEPS, **settings})
    return TextToImage(config, TextRouteConfig(guidance=guidance), make_backbone(backbone_config("phantom:clip")))


@pytest.fixture(scope="module")
def loaded(model: Path) -> TextToImage:
    return unloaded(model).load("cpu")


def stacked(made: Sequence[MadeImage]) -> np.ndarray:
    return np.stack([image.pixels_HW3 for image in made]).astype(np.int16)


def difference(one: Sequence[MadeImage], other: Sequence[MadeImage]) -> int:
    return int(np.abs(stacked(one) - stacked(other)).max())


def test_pictures_are_those_of_diffusers_own_pipeline(model: Path, loaded: TextToImage) -> None:
    theirs = StableDiffusionPipeline.from_pretrained(model)
    solver = DPMSolverMultistepScheduler.from_config(theirs.scheduler.config, algorithm_type="dpmsolver++", solver_order=2)
    theirs.scheduler = solver
    wanted = [
        np.asarray(theirs(request.prompt, num_inference_steps=STEPS, guidance_scale=5.0,
                          generator=torch.Generator().manual_seed(request.seed)).images[0])
        for request in EIGHT[:2]
    ]  # fmt: skip
    made = loaded.images(EIGHT[:2])
    assert made[0].pixels_HW3.dtype == np.uint8 and made[0].pixels_HW3.shape == (SIDE, SIDE, 3)
    assert np.abs(stacked(made) - np.stack(wanted)).max() <= 1


def test_a_picture_is_the_same_in_any_batch_and_company(model: Path, loaded: TextToImage) -> None:
    together = loaded.images(EIGHT)
    alone = unloaded(model, batch=1).load("cpu").images(EIGHT)
    assert difference(together, alone) <= 1
    assert {image.batch for image in together} == {8} and {image.batch for image in alone} == {1}
    assert difference(loaded.images(EIGHT[:2:-1]), together[:2:-1]) <= 1
    assert loaded.images([]) == []


def test_prompts_and_seeds_make_the_difference(loaded: TextToImage) -> None:
    fox, again, bus, seed = loaded.images([EIGHT[0], EIGHT[0], ImageRequest("a bus", 0), ImageRequest("a fox", 2**32 - 1)])
    assert difference([fox], [again]) <= 1
    assert difference([fox], [bus]) > 5 and difference([fox], [seed]) > 5
    assert np.ptp(fox.pixels_HW3) > 50


def test_guidance_of_0_is_none(model: Path) -> None:
    """Without guidance the network sees each picture once."""
    plain, guided = unloaded(model, guidance=0).load("cpu"), unloaded(model).load("cpu")
    seen: list[int] = []
    for made in (plain, guided):
        made._pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        made.images(EIGHT)
    assert seen == [8] * STEPS + [16] * STEPS
    assert plain.fingerprint != guided.fingerprint


def test_the_sampler_is_the_paper_s_or_the_model_s_own(tmp_path: Path, loaded: TextToImage) -> None:
    model = write_diffusion(tmp_path / "velocity", prediction="v_prediction")
    paper, own = unloaded(model).load("cpu"), unloaded(model, scheduler="model").load("cpu")
    scheduler = paper._pipeline.scheduler
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler" and scheduler.config.solver_order == 2
    assert scheduler.config.algorithm_type == "dpmsolver++" and scheduler.config.prediction_type == "v_prediction"
    assert type(own._pipeline.scheduler).__name__ == "PNDMScheduler"
    assert paper.fingerprint != own.fingerprint
    assert difference(paper.images(EIGHT[:1]), own.images(EIGHT[:1])) > 1


def test_only_what_changes_pictures_is_in_the_fingerprint(model: Path) -> None:
    same = unloaded(model).fingerprint
    assert unloaded(model, batch=3, compile=True).fingerprint == same == pickle.loads(pickle.dumps(unloaded(model))).fingerprint
    others = [unloaded(model, **change).fingerprint for change in ({"steps": 5}, {"size": 48}, {"precision": "bfloat16"})]
    assert len({same, *others}) == 4


def test_another_size(model: Path) -> None:
    assert unloaded(model, size=48).load("cpu").images(EIGHT[:1])[0].pixels_HW3.shape == (48, 48, 3)
    with pytest.raises(ConfigError, match="multiple of 8"):
        unloaded(model, size=50)


def test_half_precision_is_close(model: Path, loaded: TextToImage) -> None:
    half = unloaded(model, precision="bfloat16").load("cpu").images(EIGHT[:2])
    assert 0 < np.abs(stacked(half) - stacked(loaded.images(EIGHT[:2]))).mean() < 10


def test_a_picture_without_finite_pixels_is_not_passed_on(model: Path) -> None:
    spoilt = unloaded(model, precision="float16").load("cpu")
    spoilt._pipeline.vae.decoder.conv_out.bias.data[0] = torch.nan
    with pytest.raises(DataError, match=r"of 1 seeds have no finite pixels .*first is 3.*float16.* to bfloat16 or float32"):
        spoilt.images(EIGHT[3:4])


def test_a_prompt_longer_than_the_encoder_reads_is_cut_and_says_so(loaded: TextToImage) -> None:
    fits = "x" * (CONTEXT - 2)
    whole, cut = loaded.images([ImageRequest(fits, 0), ImageRequest(fits + "yz", 0)])
    assert not whole.truncated and cut.truncated
    assert whole.pixels_HW3.shape == cut.pixels_HW3.shape


def test_memory_that_ends_halves_the_batch(model: Path) -> None:
    made = unloaded(model).load("cpu")

    def fits_six(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 6:  # with guidance, three pictures
            raise torch.OutOfMemoryError("CUDA out of memory")

    made._pipeline.unet.register_forward_pre_hook(fits_six)
    pictures = made.images(EIGHT[:3])
    assert {image.batch for image in pictures} == {2}
    assert difference(pictures, unloaded(model).load("cpu").images(EIGHT[:3])) <= 1


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_missing_are_not_made_up(model: Path, tmp_path: Path, part: str) -> None:
    spoilt = Path(copytree(model, tmp_path / "spoilt"))
    file = next((spoilt / part).glob("*.safetensors"))
    weights = load_file(file)
    del weights[sorted(weights)[0]]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=f"1 weights of {part} are in none of its files"):
        unloaded(spoilt).load("cpu")


def test_a_class_that_diffusers_has_not(model: Path, tmp_path: Path) -> None:
    spoilt = Path(copytree(model, tmp_path / "spoilt"))
    index = json.loads((spoilt / "model_index.json").read_text())
    (spoilt / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "UNet9DModel"]}))
    with pytest.raises(ConfigError, match=r"cannot load .*UNet9DModel"):
        unloaded(spoilt).load("cpu")


def test_a_model_with_a_safety_checker_and_half_weights_only_is_loaded_without_it(tmp_path: Path, loaded: TextToImage) -> None:
    tiny_pipeline().save_pretrained(tmp_path, variant="fp16")
    index = json.loads((tmp_path / "model_index.json").read_text())
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    (tmp_path / "model_index.json").write_text(json.dumps(index | checker))
    assert difference(unloaded(tmp_path).load("cpu").images(EIGHT[:2]), loaded.images(EIGHT[:2])) <= 1


def test_loading_and_making_say_nothing_and_change_no_library(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    libraries = (diffusers_logging, transformers_logging)
    for library in libraries:
        library.set_verbosity_warning()
        library.enable_progress_bar()
    unloaded(model).load("cpu").images([ImageRequest("a fox " * 20, 0)])
    assert capfd.readouterr() == ("", "")
    assert all(library.get_verbosity() == logging.WARNING and library.is_progress_bar_enabled() for library in libraries)


def test_a_flow_matching_model_keeps_its_own_sampler_and_reads_on(tmp_path: Path) -> None:
    """FLUX's CLIP reads less of a prompt than its T5: what T5 reads is not lost."""
    model = write_flux(tmp_path / "flux")
    made = unloaded(model, size=SIDE).load("cpu")
    assert type(made._pipeline.scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
    assert unloaded(model, scheduler="model").fingerprint == unloaded(model).fingerprint
    short, long, cut = made.images([ImageRequest("a fox", 0), ImageRequest("a fox " * 20, 0), ImageRequest("a fox " * 200, 0)])
    assert (short.truncated, long.truncated, cut.truncated) == (False, False, True)
    assert difference([short], [long]) > 0
    alone = unloaded(model, size=SIDE, batch=1).load("cpu").images([ImageRequest("a fox", 0)])
    assert difference([short], alone) <= 1


def test_a_model_on_another_scale_of_noise_keeps_its_own_sampler(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.scheduler = EDMDPMSolverMultistepScheduler()
    pipeline.save_pretrained(tmp_path)
    made = unloaded(tmp_path).load("cpu")
    assert type(made._pipeline.scheduler).__name__ == "EDMDPMSolverMultistepScheduler"
    assert unloaded(tmp_path, scheduler="model").fingerprint == made.fingerprint


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_pictures(model: Path, loaded: TextToImage) -> None:
    compiled = unloaded(model, compile=True).load("cpu")
    assert difference(compiled.images(EIGHT), loaded.images(EIGHT)) <= 1
