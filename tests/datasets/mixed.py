"""A folder of pictures as they are found in the wild: every format a bank must take, and files it must refuse with a reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("rgb.png", "jpg", "webp", "gif", "tif", "cmyk.jpg", "grey16.png", "palette.png")
REFUSED = {
    "empty.jpg": "empty",
    "text.jpg": "no known format",
    "truncated.jpg": "truncated",
    "truncated.png": "truncated",
    "bomb.png": "pixels",
    "duplicate": "duplicate",
}
"""Kinds of bad files, in the order they are written, and what the reason of each must say."""


@dataclass(frozen=True)
class Mixed:
    """What `write_mixed` wrote; names are relative to `folder`."""

    folder: Path
    good: tuple[str, ...]
    """Pictures that belong into the bank, sorted."""
    bad: dict[str, str]
    """Files that do not, each with a phrase that its reason contains (in any case)."""
    duplicates: dict[str, str]
    """Those of `bad` that are copies, byte for byte: of which good picture. Their names sort behind it."""


def write_mixed(folder: Path, count: int, bad: int, seed: int = 0) -> Mixed:
    """Write `count` different good pictures of all `FORMATS` and `bad` files of all kinds of `REFUSED`, mixed, in subfolders.

    Pictures are 48 x 40, some 2 to 8 kB each; the bomb is a PNG of a few bytes whose header says 60,000 x 60,000.
    """
    rng = np.random.default_rng(seed)
    total = count + bad
    places = {(index + 1) * total // bad - 1: index for index in range(bad)}
    good: list[str] = []
    refused: dict[str, str] = {}
    copies: dict[str, str] = {}
    for position in range(total):
        subfolder = f"{position // 100:03d}"
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
        pixels = _pixels(rng)
        if position not in places:
            kind = FORMATS[len(good) % len(FORMATS)]
            name = f"{subfolder}/{position:05d}.{kind}"
            good.append(name)
            (folder / name).write_bytes(encode(pixels, kind))
            continue
        kind = list(REFUSED)[places[position] % len(REFUSED)]
        if kind == "duplicate":
            original = good[int(rng.integers(len(good)))]
            name = f"{subfolder}/{position:05d}.duplicate{Path(original).suffix}"
            copies[name] = original
            (folder / name).write_bytes((folder / original).read_bytes())
        else:
            name = f"{subfolder}/{position:05d}.{kind}"
            (folder / name).write_bytes(_BROKEN[kind](pixels, position))
        refused[name] = REFUSED[kind]
    return Mixed(folder, tuple(sorted(good)), refused, copies)


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """One picture (H, W, 3) uint8 as a file of one of the `FORMATS`."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if kind == "cmyk.jpg":
        image.convert("CMYK").save(buffer, "JPEG")
    elif kind == "grey16.png":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(buffer, "PNG")
    elif kind == "palette.png":
        image.quantize(64).save(buffer, "PNG", transparency=0)
    else:
        image.save(buffer, {"rgb.png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF"}[kind])
    return buffer.getvalue()


def _pixels(rng: np.random.Generator) -> np.ndarray:
    """A few bands of colour with noise on them: no two look or weigh alike."""
    bands = rng.integers(0, 255, (4, 4, 3))
    pixels = np.repeat(np.repeat(bands, 10, axis=0), 12, axis=1) + rng.integers(-20, 20, (40, 48, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def _cut(kind: str) -> Callable[[np.ndarray, int], bytes]:
    def broken(pixels: np.ndarray, position: int) -> bytes:
        whole = encode(pixels, kind)
        return whole[: len(whole) * 4 // 5]

    return broken


def _bomb(pixels: np.ndarray, position: int) -> bytes:
    """The header of a huge PNG, and nothing to decompress; its position as text, lest two be duplicates."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    text = chunk(b"tEXt", b"Comment\0" + str(position).encode())
    return b"\x89PNG\r\n\x1a\n" + header + text + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


_BROKEN: dict[str, Callable[[np.ndarray, int], bytes]] = {
    "empty.jpg": lambda pixels, position: b"",
    "text.jpg": lambda pixels, position: f"404 Not Found {position}\n".encode(),
    "truncated.jpg": _cut("jpg"),
    "truncated.png": _cut("rgb.png"),
    "bomb.png": _bomb,
}
