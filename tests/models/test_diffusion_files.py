"""Where a diffusion model is, what is missing, what is not read, and what identifies it. The only hub here is a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

from scuba_ray.config.synthesis import DiffusionConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.diffusion_files import DiffusionFiles, find_diffusion
from tests.models.tiny_diffusion import tiny_pipeline, write_diffusion, write_flux

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diffusion(tmp_path_factory.mktemp("diffusion") / "original")


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(copytree(original, tmp_path / "model"))


def find(model: Path | str, **settings: Any) -> DiffusionFiles:
    return find_diffusion(DiffusionConfig(model=str(model), **settings))


def change_index(model: Path, **values: Any) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | values))


# ---------------------------------------------------------------------------------------------------- directories


def test_a_complete_directory_is_found_without_loading_anything_heavy(model: Path) -> None:
    code = (
        "import sys; from scuba_ray.config.synthesis import DiffusionConfig, TextRouteConfig\n"
        "from scuba_ray.models.diffusion import TextToImage\n"
        f"made = TextToImage(DiffusionConfig(model={str(model)!r}), TextRouteConfig(), None)\n"
        "print(len(made.fingerprint), [name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["16", "[]\n"]


def test_the_fingerprint_is_the_content_s(model: Path) -> None:
    before = find(model).fingerprint()
    (model / "README.md").write_text("a card")
    moved = model.rename(model.with_name("elsewhere"))
    assert find(moved).fingerprint() == before and len(before) == 16
    content = bytearray((moved / UNET).read_bytes())
    content[-1] ^= 1
    (moved / UNET).write_bytes(content)
    assert find(moved).fingerprint() != before


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("unet", "unet/ is missing"),
        (UNET, "unet/ has no safetensors weights"),
        ("vae/config.json", "vae/ has no config.json"),
        ("tokenizer/tokenizer.json", "tokenizer/ has no tokenizer.json"),
        ("scheduler/scheduler_config.json", "scheduler/ has no scheduler_config.json"),
        ("model_index.json", "has no model_index.json: not a diffusers directory"),
    ],
)
def test_a_missing_part_is_named(model: Path, path: str, said: str) -> None:
    rmtree(model / path) if (model / path).is_dir() else (model / path).unlink()
    with pytest.raises(ConfigError, match=said) as raised:
        find(model)
    assert "copy the whole directory again" in str(raised.value)


def test_weights_of_a_cache_are_links_and_may_be_gone(model: Path, tmp_path: Path) -> None:
    blob = (model / UNET).rename(tmp_path / "blob")
    (model / UNET).symlink_to(blob)
    find(model).fingerprint()
    blob.unlink()
    with pytest.raises(ConfigError, match=r"unet/diffusion_pytorch_model.safetensors is a link to a file that is gone"):
        find(model)


@pytest.mark.parametrize("text", ["", "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n"])
def test_what_stands_in_for_weights_is_none(model: Path, text: str) -> None:
    (model / UNET).write_text(text)
    with pytest.raises(ConfigError, match=r"unet/diffusion_pytorch_model.safetensors is cut off"):
        find(model)


def test_settings_that_are_no_object(model: Path) -> None:
    (model / "unet/config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"unet/config.json is no object"):
        find(model)


def test_every_missing_part_is_named_at_once(model: Path) -> None:
    rmtree(model / "vae")
    (model / UNET).write_bytes((model / UNET).read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"unet/diffusion_pytorch_model.safetensors is cut off, vae/ is missing"):
        find(model)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_an_unreadable_index_is_said(model: Path, text: str) -> None:
    (model / "model_index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"model_index.json cannot be read"):
        find(model)


def test_a_single_file_checkpoint_is_told_how_to_become_a_directory(tmp_path: Path) -> None:
    (tmp_path / "v2-1.safetensors").write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"v2-1.safetensors is a single-file checkpoint.*from_single_file"):
        find(tmp_path)


def test_pickled_weights_are_not_read(model: Path) -> None:
    torch.save(load_file(model / UNET), (model / UNET).with_suffix(".bin"))
    (model / UNET).unlink()
    with pytest.raises(
        ConfigError, match=r"unet/ has only pickled weights.*can run code.*use_safetensors=False.*save_pretrained"
    ):
        find(model)


def test_weights_may_lie_in_shards_and_all_must_be_there(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 2
    find(tmp_path)
    shards[1].unlink()
    with pytest.raises(ConfigError, match=f"unet/ has {len(shards) - 1} of {len(shards)} shards"):
        find(tmp_path)


def test_weights_published_in_half_precision_only_are_found(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path, variant="fp16")
    assert set(find(tmp_path).networks.values()) == {"fp16"}


def test_foreign_code_is_refused(model: Path) -> None:
    change_index(model, unet=["my_unet", "MyUNet"])
    with pytest.raises(ConfigError, match=r"classes outside diffusers and transformers.*unet \(my_unet: MyUNet\)"):
        find(model)
    change_index(model, _class_name=["my_pipeline", "MyPipeline"])
    with pytest.raises(ConfigError, match=r"its own pipeline code.*MyPipeline"):
        find(model)


def test_what_is_not_loaded_need_not_be_there(model: Path) -> None:
    """Stable Diffusion 1 names a safety checker of diffusers' own."""
    change_index(model, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert "safety_checker" not in find(model).parts and "safety_checker" in find(model).unused


def test_no_text_to_image_model(model: Path) -> None:
    change_index(model, unet=[None, None])
    with pytest.raises(ConfigError, match="wanted a scheduler and a unet or transformer"):
        find(model)


def test_sizes_fit_the_autoencoder(original: Path, tmp_path: Path) -> None:
    find(original).check_size(None)
    find(original).check_size(48)
    with pytest.raises(ConfigError, match=r"size must be a multiple of 8 .*, got 100; try 96"):
        find(original).check_size(100)
    unet = original / "unet/config.json"
    sizeless = Path(copytree(original, tmp_path / "sizeless"))
    (sizeless / "unet/config.json").write_text(json.dumps(json.loads(unet.read_text()) | {"sample_size": None}))
    find(sizeless).check_size(48)
    with pytest.raises(ConfigError, match="sizeless states no size of its own; set one"):
        find(sizeless).check_size(None)
    files = find(write_flux(tmp_path / "flux"))
    settings = json.loads((tmp_path / "flux/vae/config.json").read_text())
    (tmp_path / "flux/vae/config.json").write_text(json.dumps(settings | {"block_out_channels": [8, 8, 8, 16]}))
    with pytest.raises(ConfigError, match="multiple of 16"):
        files.check_size(24)


def test_sizes_of_pixels_can_be_halved_as_often_as_the_unet_does(tmp_path: Path) -> None:
    down, up = ("DownBlock2D",) * 5, ("UpBlock2D",) * 5
    unet = UNet2DModel(sample_size=32, block_out_channels=(8,) * 5, down_block_types=down, up_block_types=up, norm_num_groups=4)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    find(tmp_path).check_size(48)
    with pytest.raises(ConfigError, match="multiple of 16"):
        find(tmp_path).check_size(40)


# ------------------------------------------------------------------------------------------------------- names


def test_a_name_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no directory on this machine, no name on the Hugging Face hub"):
        find(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"phantom:no-such: .* there are: "):
        find("phantom:no-such")


@pytest.mark.parametrize("name", ["./nowhere", "~nobody-of-that-name/x", "a--b/c", "lab/tiny/", "lab/tiny.safetensors."])
def test_what_cannot_be_a_name_is_said_even_with_a_revision(cache: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"synthesize.diffusion.model: '"):
        find(name, revision=COMMIT)


def test_a_directory_has_no_revision(model: Path) -> None:
    for name in (model, "phantom:clip"):
        with pytest.raises(ConfigError, match="revision is for names on the hub"):
            find(name, revision=COMMIT)


def test_a_directory_may_be_written_in_several_ways(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = model.rename(model.with_name("my model"))
    monkeypatch.setenv("HOME", str(spaced.parent))
    monkeypatch.chdir(spaced.parent)
    assert {find(name).directory for name in (f"{spaced}/", "~/my model", "my model", "./my model/")} == {spaced}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_name_on_the_hub_is_pinned(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"revision, so that .* `hf models info lab/tiny`"):
        find("lab/tiny")


def test_what_is_not_in_the_cache_says_how_to_get_it_there(cache: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find("lab/tiny", revision=COMMIT)
    assert f"`hf download lab/tiny --revision {COMMIT}`" in str(raised.value) and str(cache) in str(raised.value)
    assert "HF_HOME" in str(raised.value) and "directory" in str(raised.value)


def test_a_cached_model_is_named_by_its_commit(cache: Path, original: Path) -> None:
    snapshot = cache / "models--lab--tiny" / "snapshots" / COMMIT
    copytree(original, snapshot)
    (cache / "models--lab--tiny" / "refs").mkdir()
    (cache / "models--lab--tiny" / "refs" / "main").write_text(COMMIT)
    by_commit, by_branch = find("lab/tiny", revision=COMMIT), find("lab/tiny", revision="main")
    assert by_commit.directory == by_branch.directory == snapshot and by_branch.commit == COMMIT
    assert by_commit.fingerprint() == by_branch.fingerprint() and len(by_commit.fingerprint()) == 16
    half = snapshot / UNET.replace(".safetensors", ".fp16.safetensors")
    (snapshot / UNET).rename(half)
    assert find("lab/tiny", revision=COMMIT).fingerprint() != by_commit.fingerprint(), "other weights of the same commit"
    half.rename(snapshot / UNET)
    (snapshot / UNET).unlink()
    with pytest.raises(ConfigError, match=r"unet/ has no safetensors weights; `hf download lab/tiny --revision main` gets"):
        find("lab/tiny", revision="main")
