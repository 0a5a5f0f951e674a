"""Any image-to-text model of Hugging Face, in both of their layouts, describes pictures in batches; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from scuba_ray.config import DescribeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.models.image_to_text import ImageToText
from tests.models.image_to_text import write_blip, write_joined

PICTURES = [Image.new("RGB", (50, 70), colour) for colour in ("red", "blue", "blue", "red", "red")]


@pytest.mark.parametrize("write", [write_joined, write_blip])
def test_pictures_are_described_in_order_whatever_the_batch(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    folder = write(tmp_path / "model")
    wanted = [f"a picture of {colour}" for colour in ("red", "blue", "blue", "red", "red")]
    for batch in (1, 2, 5):
        model = ImageToText(DescribeConfig(model=str(folder), batch=batch, max_tokens=8)).load("cpu")
        assert model.describe(PICTURES) == wanted
    assert model.describe([]) == []


def test_a_model_can_be_told_how_to_begin(tmp_path: Path) -> None:
    folder = write_blip(tmp_path / "model")
    model = ImageToText(DescribeConfig(model=str(folder), prompt="a picture", max_tokens=8)).load("cpu")
    assert [text.split()[-1] for text in model.describe(PICTURES)] == ["red", "blue", "blue", "red", "red"]


def test_one_that_takes_no_text_says_so(tmp_path: Path) -> None:
    model = ImageToText(DescribeConfig(model=str(write_joined(tmp_path / "model")), prompt="a picture")).load("cpu")
    with pytest.raises(ConfigError, match=r"lavca.describe.prompt: .* takes no text beside a picture"):
        model.describe(PICTURES)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match=r"lavca.describe.model: transformers cannot load .* as an image-to-text model"):
        ImageToText(DescribeConfig(model=str(tmp_path))).load("cpu")
