"""A directory of our making must load through open_clip itself, offline, and after it was moved."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import open_clip
import pytest
import torch

from scuba_ray.errors import ConfigError
from scuba_ray.models.clip import OpenClipBackbone
from tests.models.tiny import WORDS, picture, write_tiny


def test_open_clip_loads_it_wherever_it_lies(directory: Path, tmp_path: Path) -> None:
    moved = copytree(directory, tmp_path / "else where" / "moved")
    for place in (directory, moved):
        network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{place}")
        tokens = open_clip.get_tokenizer(f"local-dir:{place}")(WORDS)
        assert tokens.shape == (len(WORDS), 16)
        end = tokens.max()
        assert int(end) == network.vocab_size - 1
        assert (tokens == end).sum(1).tolist() == [1] * len(WORDS), "one end token each: it is where the text tower pools"
        assert transform(picture()).shape == (3, 64, 64)
        assert network.encode_text(tokens).shape == (len(WORDS), 24)


def test_weights_come_back_as_written_in_half_precision(directory: Path, tmp_path: Path) -> None:
    state = write_tiny(tmp_path / "again")
    network = open_clip.create_model(f"local-dir:{tmp_path / 'again'}")
    for name, tensor in network.state_dict().items():
        expected = state[name].half().float() if state[name].is_floating_point() else state[name]
        assert torch.equal(tensor, expected), name


def test_long_text_keeps_its_end_token(directory: Path) -> None:
    tokens = open_clip.get_tokenizer(f"local-dir:{directory}")(["green apples on a table " * 20])
    assert tokens[0, -1] == tokens.max()


def test_fingerprint_follows_content_not_place(directory: Path, tmp_path: Path) -> None:
    original = OpenClipBackbone("tiny", f"local-dir:{directory}").fingerprint
    moved = copytree(directory, tmp_path / "moved")
    assert OpenClipBackbone("other name", f"local-dir:{moved}").fingerprint == original
    assert len(original) == 16
    for change in ("open_clip_model.safetensors", "tokenizer.json", "open_clip_config.json"):
        other = copytree(directory, tmp_path / change)
        text = (other / change).read_bytes()
        (other / change).write_bytes(text[:-1] + bytes([text[-1] ^ 1]) if change.endswith("safetensors") else text + b" ")
        assert OpenClipBackbone("tiny", f"local-dir:{other}").fingerprint != original, change


def test_what_is_missing_is_named(directory: Path, tmp_path: Path) -> None:
    def broken(name: str, remove: str) -> str:
        place = copytree(directory, tmp_path / name)
        for path in place.glob(remove):
            path.unlink()
        with pytest.raises(ConfigError) as caught:
            OpenClipBackbone("tiny", f"local-dir:{place}")
        return str(caught.value)

    assert "open_clip_config.json" in broken("no config", "open_clip_config.json")
    assert "open_clip_model.safetensors" in broken("no checkpoint", "*.safetensors")
    assert "tokenizer.json" in broken("no tokenizer", "tokenizer*")
    with pytest.raises(ConfigError, match="no such directory"):
        OpenClipBackbone("tiny", f"local-dir:{tmp_path / 'nowhere'}")
    place = copytree(directory, tmp_path / "half a config")
    (place / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 3}}))
    with pytest.raises(ConfigError, match="vision_cfg and text_cfg"):
        OpenClipBackbone("tiny", f"local-dir:{place}")


def test_a_checkpoint_of_another_architecture_is_an_error(directory: Path, tmp_path: Path) -> None:
    place = copytree(directory, tmp_path / "other")
    settings = json.loads((place / "open_clip_config.json").read_text())
    settings["model_cfg"]["embed_dim"] = 32
    (place / "open_clip_config.json").write_text(json.dumps(settings))
    backbone = OpenClipBackbone("tiny", f"local-dir:{place}")
    with pytest.raises(ConfigError, match="cannot load it"):
        backbone.load("cpu")
