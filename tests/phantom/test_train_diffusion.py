"""The phantom's diffusion model from a start to a directory: what is trained changes, the rest stays, and diffusers loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from safetensors.torch import load_file

from scuba_ray.config import backbone_config
from scuba_ray.models.clip import make_backbone
from scuba_ray.phantom import train_diffusion
from scuba_ray.phantom.diffusion_model import new_autoencoder, new_unet, save, text_encoder_of, tokenizer_of

TEXTS = ["A photo of a dog", "", "A photo of a red apple and a bus"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks."""
    out = tmp_path_factory.mktemp("diffusion") / "start"
    torch.manual_seed(0)
    schedule = dict(train_diffusion.noise_schedule().config)
    save(out, vae=new_autoencoder(), unet=new_unet(), encoder=text_encoder_of("clip"), schedule=schedule)
    return out


def weights(directory: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(directory / part / "diffusion_pytorch_model.safetensors")


def changed(before: Path, after: Path, part: str) -> set[str]:
    """First words of the names of the weights that differ."""
    old, new = weights(before, part), weights(after, part)
    assert set(old) == set(new) and all(tensor.isfinite().all() for tensor in new.values())
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("part", ["decoder", "unet"])
def test_a_second_of_training_ends_with_a_pipeline(
    start: Path, tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    out = tmp_path / "trained"
    asked = f"--start {start} --out {out} --minutes 0.02 --batch 4 --part {part} --device cpu"
    monkeypatch.setattr("sys.argv", ["train_diffusion", *asked.split(" ")])
    train_diffusion.main()
    if part == "decoder":
        assert changed(start, out, "vae") == {"decoder", "post_quant_conv"} and not changed(start, out, "unet")
    else:
        assert {"conv_in", "down_blocks", "mid_block", "up_blocks"} <= changed(start, out, "unet")
        assert not changed(start, out, "vae")
    pipeline: Any = DiffusionPipeline.from_pretrained(out, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
    assert pipeline("a dog", num_inference_steps=2, output_type="np").images.shape == (1, 64, 64, 3)


def test_a_part_alone_needs_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["train_diffusion", "--out", str(tmp_path), "--minutes", "1", "--part", "unet"])
    with pytest.raises(SystemExit):
        train_diffusion.main()
    assert "give --start" in capsys.readouterr().err


def test_the_text_encoder_is_the_backbone_s_text_tower() -> None:
    backbone: Any = make_backbone(backbone_config("phantom:clip")).load("cpu")
    encoder, tokenizer = text_encoder_of("clip"), tokenizer_of("clip")
    ids = tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    assert torch.equal(ids, backbone._tokenizer(TEXTS))
    with torch.no_grad():
        ends = encoder(ids).last_hidden_state[torch.arange(len(TEXTS)), ids.argmax(1)]
        embedding_BD = ends @ backbone._network.text_projection
    torch.testing.assert_close(embedding_BD, backbone.embed_texts(TEXTS), atol=1e-4, rtol=1e-4)
