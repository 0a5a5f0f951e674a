"""What a network sees of a picture: open_clip's own transform, to the last bit, without torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from scuba_ray.models.pictures import OPEN_CLIP, Framed, Squeezed

SIZES = [
    (100, 80),
    (80, 100),
    (64, 64),
    (20, 30),
    (30, 20),
    (7, 5),
    (1, 90),
    (90, 1),
    (500, 375),
    (333, 500),
    (65, 64),
    (63, 200),
]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * 1000 + height).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [64, (64, 64), (48, 64), (71, 33)])
def test_it_is_open_clips_transform(size: int | tuple[int, int], mode: str, interpolation: str) -> None:
    settings = {**OPEN_CLIP, "size": size, "resize_mode": mode, "interpolation": interpolation, "fill_color": 127}
    theirs, ours = image_transform_v2(PreprocessCfg(**settings), is_train=False), Framed.of(settings)
    mean_311, std_311 = (torch.tensor(settings[name])[:, None, None] for name in ("mean", "std"))
    compared = 0
    for width, height in SIZES:
        image = noise(width, height)
        try:
            wanted_3HW = theirs(image)
        except ValueError:
            with pytest.raises(ValueError, match="must be > 0"):
                ours(image)
            continue
        got_3HW = ours(image)
        assert got_3HW.dtype == np.uint8 and got_3HW.flags.c_contiguous
        bits_3HW = ((wanted_3HW * std_311 + mean_311) * 255).round().to(torch.uint8)
        np.testing.assert_array_equal(got_3HW, bits_3HW.numpy(), err_msg=f"{width} x {height}")
        compared += 1
    assert compared >= len(SIZES) - 2


def test_defaults_are_open_clips() -> None:
    assert dict(OPEN_CLIP) == asdict(PreprocessCfg())


def test_a_hair_of_a_picture_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(ValueError, match="1 x 90000 pixels are too thin"):
        Framed(224, 224)(Image.new("RGB", (1, 90_000)))


def test_the_whole_picture_in_a_square() -> None:
    image = noise(100, 80)
    wanted = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(Squeezed(64)(image), wanted)
    np.testing.assert_array_equal(Squeezed(64)(noise(64, 64)), np.asarray(noise(64, 64)).transpose(2, 0, 1))


def test_it_travels_and_needs_no_torch() -> None:
    for one in (Framed(64, 48), Squeezed(64)):
        code = f"import pickle, sys; pickle.loads({pickle.dumps(one)!r}); print('torch' in sys.modules, 'pyarrow' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False False"
