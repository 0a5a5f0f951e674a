"""OpenClipBackbone: raw embeddings as open_clip gives them, and clear errors for models that cannot work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from shutil import copytree

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from scuba_ray.config import BackboneConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import OpenClipBackbone, make_backbone
from scuba_ray.protocols import Backbone
from tests.models.tiny import WORDS, picture, write_tiny


def test_embeddings_are_raw_and_open_clips_own(directory: Path) -> None:
    backbone = make_backbone(BackboneConfig(name="tiny", model=f"local-dir:{directory}"))
    assert backbone.dim == 24
    backbone.load("cpu")
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    network.eval()
    pixels = torch.stack([backbone.preprocess(picture(seed)) for seed in range(3)])
    assert torch.equal(pixels, torch.stack([transform(picture(seed)) for seed in range(3)]))
    images = backbone.embed_images(pixels)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, network.encode_image(pixels))
    assert (images.norm(dim=1) - 1).abs().min() > 1e-3, "not normalised"
    texts = backbone.embed_texts(WORDS)
    torch.testing.assert_close(texts, network.encode_text(open_clip.get_tokenizer(f"local-dir:{directory}")(WORDS)))
    assert backbone.embed_texts([]).shape == (0, 24)
    torch.testing.assert_close(backbone.embed_texts(WORDS * 60)[-len(WORDS) :], texts)


def test_preprocessing_is_open_clips_own_without_weights(directory: Path, tmp_path: Path) -> None:
    copytree(directory, tmp_path / "own")
    settings = json.loads((tmp_path / "own" / "open_clip_config.json").read_text())
    settings["preprocess_cfg"] = {"mean": 0.4, "std": [0.5, 0.25, 0.2], "interpolation": "bilinear", "resize_mode": "longest"}
    (tmp_path / "own" / "open_clip_config.json").write_text(json.dumps({**settings}))
    for place in (directory, tmp_path / "own"):
        unloaded = OpenClipBackbone("tiny", f"local-dir:{place}")
        _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{place}")
        assert torch.equal(unloaded.preprocess(picture()), transform(picture()))
        assert unloaded._network is None


def test_preprocessing_of_every_tag_is_open_clips() -> None:
    defaults = asdict(PreprocessCfg())
    modes = set()
    for arch, tag in open_clip.list_pretrained():
        config = open_clip.get_model_config(arch)
        wanted = merge_preprocess_dict(defaults, open_clip.get_pretrained_cfg(arch, tag))
        wanted["size"] = config["vision_cfg"].get("image_size", 224)
        try:
            backbone = OpenClipBackbone("any", f"open_clip:{arch}/{tag}")
        except ConfigError:
            continue
        assert backbone._settings == {**wanted, "mean": tuple(wanted["mean"]), "std": tuple(wanted["std"])}
        modes.add(backbone.preprocessing.resize_mode)
    assert modes >= {"shortest", "squash"}


def test_another_process_computes_the_same_fingerprint(directory: Path) -> None:
    code = (
        "from scuba_ray.models.clip import OpenClipBackbone as B\n"
        f"print(B('tiny', 'local-dir:{directory}').fingerprint)"
    )  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.strip() == OpenClipBackbone("tiny", f"local-dir:{directory}").fingerprint


def test_a_checkpoint_file_of_a_known_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny(tmp_path / "tiny")
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    settings = (tmp_path / "tiny" / "open_clip_config.json").read_text()
    config = json.loads(settings)["model_cfg"]
    config["text_cfg"].pop("hf_tokenizer_name")
    (tmp_path / "scuba-tiny-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "scuba-tiny-test.json")
    checkpoint = tmp_path / "tiny" / "open_clip_model.safetensors"
    backbone = OpenClipBackbone("tiny", f"open_clip:scuba-tiny-test/{checkpoint}").load("cpu")
    local = OpenClipBackbone("tiny", f"local-dir:{tmp_path / 'tiny'}").load("cpu")
    pixels = torch.stack([backbone.preprocess(picture())])
    assert torch.equal(backbone.embed_images(pixels), local.embed_images(pixels))
    assert len(backbone.fingerprint) == 16
    assert backbone.fingerprint != local.fingerprint, "another tokenizer"


@pytest.mark.parametrize("arch", ["ViT-B-32", "ViT-L-14", "RN50"])
def test_openai_weights_under_the_plain_name_are_refused(arch: str) -> None:
    with pytest.raises(ConfigError, match=f"open_clip:{arch}-quickgelu/openai"):
        OpenClipBackbone("clip", f"open_clip:{arch}/openai")


def test_every_tag_of_open_clip_is_accepted_or_answered_with_one_that_is() -> None:
    refused = 0
    for arch, tag in open_clip.list_pretrained():
        try:
            OpenClipBackbone("any", f"open_clip:{arch}/{tag}")
        except ConfigError as error:
            refused += 1
            OpenClipBackbone("any", str(error).rpartition("use ")[2])
    assert refused > 10


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("open_clip:ViT-B-99/openai", "ViT-B-16"),
        ("open_clip:ViT-B-32/no-such-tag", "laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", "ARCH/PRETRAINED"),
        ("phantom:no-such-model", "ships with scuba_ray"),
        ("local-dir:", "local-dir:PATH"),
        ("no-such-scheme", "no backbone is called"),
    ],
)
def test_models_that_cannot_work_say_what_to_do(model: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_backbone(BackboneConfig(name="x", model=model))


def test_a_checkpoint_that_cannot_be_downloaded(tmp_path: Path) -> None:
    code = (
        "from scuba_ray.models.clip import OpenClipBackbone\nfrom scuba_ray.errors import ConfigError\n"
        "try: OpenClipBackbone('clip', 'open_clip:ViT-B-32-quickgelu/openai').load('cpu')\n"
        "except ConfigError as error: print('ConfigError', error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("ConfigError")
    assert "local-dir:PATH" in done.stdout
    assert "HF_HUB_OFFLINE is set" in done.stdout and "hf download timm/vit_base_patch32_clip_224.openai" in done.stdout


def test_it_is_a_backbone(directory: Path) -> None:
    backbone: Backbone = OpenClipBackbone("tiny", f"local-dir:{directory}")
    assert backbone.name == "tiny"
