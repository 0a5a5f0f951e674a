"""Encodes the pictures of a file of pairs once, in blocks on disk: an interrupted training does not encode them again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scuba_ray.errors import DataError
from scuba_ray.models.pair_files import Pairs
from scuba_ray.protocols import Backbone

if TYPE_CHECKING:
    from PIL import Image

Decode = Callable[[bytes], "Image.Image"]
# pictures per file, and per pass of the network
_BLOCK, _BATCH = 4096, 64


def embeddings_of(
    given: Pairs, backbone: Backbone, cache: Path, *, decode: Decode, device: str, report: Callable[[str], None]
) -> tuple[Tensor, Tensor]:
    """Return raw embeddings (I, D) of every item, on the CPU, and which could be read (I,), bool.

    Embeddings that the file itself holds are passed on. Blocks lie in `cache`, under a name made of the backbone and the
    pictures' names, sizes and times; unreadable pictures have zeros.
    """
    if given.embedding_ID is not None:
        return given.embedding_ID, torch.ones(len(given.embedding_ID), dtype=torch.bool)
    key = hashlib.sha256(f"{backbone.fingerprint}\n{given.digest}".encode()).hexdigest()[:16]
    folder = cache / f"embeddings-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    total = len(given.picture)
    blocks = []
    encoder: Backbone | None = None
    for start in range(0, total, _BLOCK):
        path = folder / f"{start:09d}.safetensors"
        if not path.is_file():
            encoder = encoder or backbone.load(device)
            pictures = [given.folder / name for name in given.picture[start : start + _BLOCK]]
            save_file(_encode(encoder, pictures, decode), path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
            report(f"encoded {min(start + _BLOCK, total)} of {total} pictures")
        blocks.append(load_file(path))
    return torch.cat([block["embedding"] for block in blocks]), torch.cat([block["usable"] for block in blocks])


def _encode(encoder: Backbone, pictures: Sequence[Path], decode: Decode) -> dict[str, Tensor]:
    """Raw embeddings of pictures, and which of them could be read."""

    def pixels(path: Path) -> Tensor | None:
        try:
            return encoder.preprocess(decode(path.read_bytes()))
        except (DataError, FileNotFoundError):
            return None

    embedding_ID = torch.zeros(len(pictures), encoder.dim)
    usable_I = torch.zeros(len(pictures), dtype=torch.bool)
    with ThreadPoolExecutor(4) as threads:
        for start in range(0, len(pictures), _BATCH):
            read = list(threads.map(pixels, pictures[start : start + _BATCH]))
            good = [start + place for place, one in enumerate(read) if one is not None]
            if good:
                embedding_ID[good] = encoder.embed_images(torch.stack([one for one in read if one is not None])).cpu()
                usable_I[good] = True
    return {"embedding": embedding_ID, "usable": usable_I}
