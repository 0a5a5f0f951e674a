"""The gradient route: the plain sampler where nothing guides, towards and away from a direction where something does."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DModel

from scuba_ray.config.synthesis import DiffusionConfig, GradientRouteConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.brain_guidance import BrainGuided
from scuba_ray.models.clip import OpenClipBackbone
from scuba_ray.models.sentences import SentenceEncoder
from scuba_ray.protocols import ImageRequest, Synthesizer
from tests.models.tiny_diffusion import BETAS, CONTEXT, SIDE, tiny_pipeline, write_diffusion, write_xl

STEPS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diffusion(tmp_path_factory.mktemp("diffusion") / "tiny")


@pytest.fixture(scope="module")
def pixel_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, attention_head_dim=8,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("pixels") / "tiny"
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(out, safe_serialization=True)
    return out


@pytest.fixture(scope="module")
def backbone() -> OpenClipBackbone:
    return OpenClipBackbone("clip", "phantom:clip")


@pytest.fixture(scope="module")
def direction(backbone: OpenClipBackbone) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=backbone.dim).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def settings(model: Path, **changes: Any) -> DiffusionConfig:
    return DiffusionConfig(model=str(model), steps=STEPS, **changes)


def plain(pipeline: Any, scheduler: str, **asked: Any) -> np.ndarray:
    if scheduler == "dpm-solver++":
        pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
            pipeline.scheduler.config, algorithm_type="dpmsolver++", solver_order=2
        )
    pipeline.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    made: np.ndarray = pipeline(generator=generator, num_inference_steps=STEPS, output_type="np", **asked).images
    return made


def drawn(maker: Synthesizer, direction: np.ndarray, seeds: tuple[int, ...] = (3, 4)) -> np.ndarray:
    made = maker.load("cpu").images([ImageRequest("", seed, direction) for seed in seeds])
    return np.stack([image.pixels_HW3 for image in made]).astype(np.float64)


def predicted(backbone: OpenClipBackbone, pixels: np.ndarray, direction: np.ndarray) -> float:
    embedding = backbone.embed_pictures(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    unit = torch.nn.functional.normalize(embedding, dim=1)
    return float((unit @ torch.from_numpy(direction)).mean())


@pytest.mark.parametrize(
    "sampling",
    [
        ("PNDMScheduler", "epsilon", "dpm-solver++"),
        ("PNDMScheduler", "v_prediction", "dpm-solver++"),
        ("PNDMScheduler", "epsilon", "model"),
        ("EulerDiscreteScheduler", "v_prediction", "model"),
        ("EulerAncestralDiscreteScheduler", "epsilon", "model"),
        ("DDIMScheduler", "sample", "model"),
    ],
)
def test_without_strengths_it_is_the_plain_sampler(
    tmp_path: Path, backbone: OpenClipBackbone, direction: np.ndarray, sampling: tuple[str, str, Any]
) -> None:
    kind, prediction, scheduler = sampling
    pipeline = tiny_pipeline()
    pipeline.scheduler = getattr(diffusers, kind)(**BETAS, prediction_type=prediction)
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=True)
    maker = BrainGuided(
        settings(tmp_path / "model", scheduler=scheduler), GradientRouteConfig(scale=0, self_attention=0), backbone
    )
    asked = {"prompt": ["", ""], "guidance_scale": 1.0}
    want = plain(StableDiffusionPipeline.from_pretrained(tmp_path / "model", safety_checker=None), scheduler, **asked)
    assert np.abs(drawn(maker, direction) - 255 * want).max() <= 1
    assert want.std() > 0.01


@pytest.mark.parametrize("scheduler", ["dpm-solver++", "model"])
def test_pixel_models_are_sampled_and_guided(
    pixel_model: Path, backbone: OpenClipBackbone, direction: np.ndarray, scheduler: Any
) -> None:
    diffusion = settings(pixel_model, scheduler=scheduler)
    unguided = drawn(BrainGuided(diffusion, GradientRouteConfig(scale=0, self_attention=0), backbone), direction)
    want = plain(DDPMPipeline.from_pretrained(pixel_model), scheduler, batch_size=2)
    assert np.abs(unguided - 255 * want).max() <= 1
    guided = drawn(BrainGuided(diffusion, GradientRouteConfig(scale=30), backbone), direction)
    assert predicted(backbone, guided, direction) > predicted(backbone, unguided, direction)


def test_stable_diffusion_xl_is_asked_nothing_as_it_was_trained(
    tmp_path: Path, backbone: OpenClipBackbone, direction: np.ndarray
) -> None:
    """Its null prompt is zeros, not the empty text; latents have a mean and deviation of each channel."""
    latents = {"latents_mean": (0.3, -0.2, 0.1, 0.0), "latents_std": (0.5, 2.0, 1.0, 1.5)}
    model = write_xl(tmp_path / "xl", **latents)
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    null = {"prompt_embeds": torch.zeros(2, CONTEXT, 64), "pooled_prompt_embeds": torch.zeros(2, 32)}
    want = plain(pipeline, "dpm-solver++", **null, guidance_scale=1.0)
    unguided = drawn(BrainGuided(settings(model), GradientRouteConfig(scale=0, self_attention=0), backbone), direction)
    assert np.abs(unguided - 255 * want).max() <= 1
    guided = drawn(BrainGuided(settings(model), GradientRouteConfig(scale=30), backbone), direction)
    assert predicted(backbone, guided, direction) > predicted(backbone, unguided, direction)


@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_schedule_that_begins_with_pure_noise_is_guided_from_its_second_step(
    tmp_path: Path, backbone: OpenClipBackbone, direction: np.ndarray, kind: str
) -> None:
    pipeline = tiny_pipeline()
    pipeline.scheduler = getattr(diffusers, kind)(
        **BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    diffusion = settings(tmp_path, scheduler="model")
    unguided = drawn(BrainGuided(diffusion, GradientRouteConfig(scale=0, self_attention=0), backbone), direction)
    theirs = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    assert np.abs(unguided - 255 * plain(theirs, "model", prompt=["", ""], guidance_scale=1.0)).max() <= 1
    guided = drawn(BrainGuided(diffusion, GradientRouteConfig(scale=30), backbone), direction)
    assert predicted(backbone, guided, direction) > predicted(backbone, unguided, direction)


def test_pictures_that_are_not_square_are_guided(
    model: Path, tmp_path: Path, backbone: OpenClipBackbone, direction: np.ndarray
) -> None:
    change(copytree(model, tmp_path / "model") / "unet" / "config.json", sample_size=[8, 6])
    assert drawn(BrainGuided(settings(tmp_path / "model"), GradientRouteConfig(), backbone), direction).shape == (2, 32, 24, 3)


def test_what_is_recomputed_for_want_of_memory_changes_nothing(
    model: Path, backbone: OpenClipBackbone, direction: np.ndarray
) -> None:
    """As on CUDA, where activations are not kept."""
    maker = BrainGuided(settings(model, batch=2), GradientRouteConfig(), backbone)
    kept = drawn(maker, direction)
    requests = [ImageRequest("", seed, direction) for seed in (3, 4)]
    maker._denoiser._unet.enable_gradient_checkpointing()
    maker._denoiser._vae.enable_gradient_checkpointing()
    again = np.stack([image.pixels_HW3 for image in maker.images(requests)])
    assert np.abs(kept - again).max() <= 1


def test_nothing_is_kept_from_call_to_call(model: Path, backbone: OpenClipBackbone, direction: np.ndarray) -> None:
    maker = BrainGuided(settings(model, batch=2), GradientRouteConfig(), backbone).load("cpu")

    def tensors() -> int:
        maker.images([ImageRequest("", 3, direction)])
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    tensors()
    before = tensors()
    assert tensors() == before
    parts = (maker._denoiser._unet, maker._denoiser._vae, backbone._network)
    assert all(weight.grad is None and not weight.requires_grad for part in parts for weight in part.parameters())


def test_self_attention_guidance_is_that_of_diffusers(model: Path, backbone: OpenClipBackbone, direction: np.ndarray) -> None:
    deprecated = pytest.importorskip("diffusers.pipelines.deprecated.stable_diffusion_sag.pipeline_stable_diffusion_sag")
    pipeline = deprecated.StableDiffusionSAGPipeline.from_pretrained(
        model, safety_checker=None, image_encoder=None, requires_safety_checker=False
    )
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    want = plain(pipeline, "model", prompt=["", ""], guidance_scale=0.0, sag_scale=2.0)
    maker = BrainGuided(settings(model, scheduler="model"), GradientRouteConfig(scale=0, self_attention=2), backbone).load("cpu")
    maker._denoiser.scheduler = pipeline.scheduler
    got = np.stack([image.pixels_HW3 for image in maker.images([ImageRequest("", seed, direction) for seed in (3, 4)])])
    assert np.abs(got - 255 * want).max() <= 1
    unguided = drawn(BrainGuided(settings(model), GradientRouteConfig(scale=0, self_attention=0), backbone), direction)
    assert np.abs(got - unguided).max() > 1


def test_pictures_follow_the_direction_and_flee_its_opposite(
    model: Path, backbone: OpenClipBackbone, direction: np.ndarray
) -> None:
    without, towards, away = (
        drawn(BrainGuided(settings(model), GradientRouteConfig(scale=scale), backbone), sign * direction)
        for scale, sign in ((0, 1), (30, 1), (30, -1))
    )
    drives = [predicted(backbone, pixels, direction) for pixels in (away, without, towards)]
    assert drives == sorted(drives)
    assert drives[2] - drives[0] > 0.01


def test_a_picture_does_not_depend_on_the_batch(model: Path, backbone: OpenClipBackbone, direction: np.ndarray) -> None:
    seeds = tuple(range(8))
    one, eight = (
        drawn(BrainGuided(settings(model, batch=batch), GradientRouteConfig(), backbone), direction, seeds) for batch in (1, 8)
    )
    assert np.abs(one - eight).max() <= 1
    assert np.abs(eight[0] - eight[1]).max() > 5


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_near(model: Path, backbone: OpenClipBackbone, direction: np.ndarray, precision: Any) -> None:
    route = GradientRouteConfig()
    full = drawn(BrainGuided(settings(model), route, backbone), direction)
    half = drawn(BrainGuided(settings(model, precision=precision), route, backbone), direction)
    assert np.abs(full - half).mean() < 8


def without_middle(directory: Path) -> None:
    change(directory / "unet" / "config.json", mid_block_type=None)


def as_transformer(directory: Path) -> None:
    (directory / "unet").rename(directory / "transformer")
    index = json.loads((directory / "model_index.json").read_text())
    del index["unet"]
    index["transformer"] = ["diffusers", "FluxTransformer2DModel"]
    (directory / "model_index.json").write_text(json.dumps(index))


def as_inpainting(directory: Path) -> None:
    change(directory / "unet" / "config.json", in_channels=9)


def with_classes(directory: Path) -> None:
    change(directory / "unet" / "config.json", num_class_embeds=10)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_middle, "self_attention: 0"),
        (as_transformer, r"FluxTransformer2DModel.*Stable Diffusion 1, 2 and XL"),
        (as_inpainting, "reads 9 channels"),
        (with_classes, "num_class_embeds"),
    ],
)
def test_what_cannot_be_guided_is_refused_before_weights_are_read(
    model: Path, backbone: OpenClipBackbone, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(copytree(model, tmp_path / "model"))
    with pytest.raises(ConfigError, match=words):
        BrainGuided(settings(tmp_path / "model"), GradientRouteConfig(), backbone)


@pytest.mark.parametrize(
    ("scheduler", "asked"),
    [
        (diffusers.EDMEulerScheduler(), "dpm-solver++"),
        (diffusers.EDMEulerScheduler(), "model"),
        (diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"), "model"),
    ],
)
def test_a_schedule_without_alphas_is_refused(backbone: OpenClipBackbone, tmp_path: Path, scheduler: Any, asked: Any) -> None:
    pipeline = tiny_pipeline()
    pipeline.scheduler = scheduler
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    with pytest.raises(ConfigError, match=rf"{type(scheduler).__name__}.* no cumulative alphas"):
        BrainGuided(settings(tmp_path, scheduler=asked), GradientRouteConfig(), backbone).load("cpu")


def test_a_backbone_without_gradient_is_refused(model: Path) -> None:
    encoder = SentenceEncoder.__new__(SentenceEncoder)
    encoder.name = "sentences"
    with pytest.raises(ConfigError, match="embed_pictures"):
        BrainGuided(settings(model), GradientRouteConfig(), encoder)


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        ({"prompt": "", "seed": 0}, "needs a direction .* got none"),
        ({"prompt": "", "seed": 0, "direction_D": np.ones(3, np.float32)}, r"\(3,\)"),
        ({"prompt": "", "seed": 0, "direction_D": np.full(128, np.nan, np.float32)}, "fitted voxels.* not finite"),
        ({"prompt": "a dog", "seed": 0}, "'a dog'"),
    ],
)
def test_requests_that_say_too_little_or_too_much(
    model: Path, backbone: OpenClipBackbone, request_of: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        BrainGuided(settings(model), GradientRouteConfig(), backbone).images([ImageRequest(**request_of)])


def test_what_changes_a_picture_changes_the_fingerprint(model: Path, pixel_model: Path, backbone: OpenClipBackbone) -> None:
    route = GradientRouteConfig()
    same = BrainGuided(settings(model), route, backbone).fingerprint
    assert BrainGuided(settings(model, batch=2, size=SIDE), route, backbone).fingerprint != same, "size"
    assert BrainGuided(settings(model, batch=2), route, backbone).fingerprint == same
    others = {
        BrainGuided(settings(model, scheduler="model"), route, backbone).fingerprint,
        BrainGuided(settings(model, precision="bfloat16"), route, backbone).fingerprint,
        BrainGuided(settings(model), GradientRouteConfig(scale=10), backbone).fingerprint,
        BrainGuided(settings(model), GradientRouteConfig(self_attention=0.5), backbone).fingerprint,
        BrainGuided(settings(model), route, OpenClipBackbone("clip", "phantom:judge")).fingerprint,
        BrainGuided(settings(pixel_model), route, backbone).fingerprint,
    }
    assert len(others - {same}) == 6
