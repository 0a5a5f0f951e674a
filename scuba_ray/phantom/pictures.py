"""Scenes to PNG files: rendered in batches, compressed and written by a few threads meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scuba_ray.phantom.scenes import Drawings, Scenes, render

Progress = Callable[[int, int], None]
"""Called with the pictures done and their total."""

_BATCH = 250
_WRITERS = 4
_LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722]) / 255


def write_pictures(
    folder: Path, names: Sequence[str], scenes: Scenes, drawings: Drawings, progress: Callable[[int], None]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render scenes and write them below `folder` under `names`; `progress` is told how many are on their way.

    Returns
    -------
    luminance_S, contrast_S : Tensor of shape (S,)
        Mean and standard deviation of each picture's luminance (Rec. 709 weights, 0 to 1).
    """
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    luminance, contrast = [], []
    with ThreadPoolExecutor(_WRITERS) as writers:
        waiting: list[Future[None]] = []
        for start in range(0, len(scenes), _BATCH):
            pictures_B3HW = render(scenes[start : start + _BATCH], drawings)
            grey_BHW = torch.einsum("bchw,c->bhw", pictures_B3HW.float(), _LUMINANCE)
            luminance.append(grey_BHW.mean((1, 2)))
            contrast.append(grey_BHW.std((1, 2), correction=0))
            for future in waiting:
                future.result()
            paths = [folder / name for name in names[start : start + _BATCH]]
            pixels = pictures_B3HW.permute(0, 2, 3, 1).contiguous().numpy()
            parts = [slice(part, None, _WRITERS) for part in range(_WRITERS)]
            waiting = [writers.submit(_write, paths[part], pixels[part]) for part in parts]
            progress(min(start + _BATCH, len(scenes)))
        for future in waiting:
            future.result()
    return torch.cat(luminance), torch.cat(contrast)


def _write(paths: Sequence[Path], pixels_BHW3: np.ndarray) -> None:
    for path, pixels in zip(paths, pixels_BHW3, strict=True):
        Image.fromarray(pixels).save(path, format="PNG", compress_level=1)
