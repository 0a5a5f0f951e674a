"""What the first bytes of a picture promise: its format and size, read without a decoder.

Bytes from the network meet no decoder in the process that answers requests: Pillow's WebP reader makes room for the whole canvas
on opening, its TIFF reader for whatever a directory claims. Decoding happens in processes of its own (`datasets.decoder`), which
look again at what they really get.
"""

from __future__ import annotations

import struct

from scuba_ray.errors import DataError

FORMATS = "PNG, JPEG, WebP, GIF or BMP"
_SEGMENTS = 2_000
"""Segments before a JPEG's frame header, at most; a file of empty segments would be read for seconds."""


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels that a picture's header states.

    Raises
    ------
    DataError
        If the bytes do not begin like one of `FORMATS`, or end in the header.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            return _pair(">II", data, 16)
        if data[:6] in {b"GIF87a", b"GIF89a"}:
            return _pair("<HH", data, 6)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith(b"BM"):
            return _bmp(data)
    except struct.error as error:
        raise DataError("not a readable picture: it ends in its header") from error
    raise DataError(f"not a picture that is read here: wanted {FORMATS}")


def _pair(layout: str, data: bytes, at: int) -> tuple[int, int]:
    width, height = struct.unpack_from(layout, data, at)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    for _ in range(_SEGMENTS):
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF:
            break
        if kind == 0xFF:  # padding between segments
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC}:  # a frame header; the three are tables and reserved
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + length
    raise DataError("not a readable picture: a JPEG without a frame header")


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":  # canvas minus one, 24 bits each
        return (int.from_bytes(_part(data, 24, 3), "little") + 1, int.from_bytes(_part(data, 27, 3), "little") + 1)
    if kind == b"VP8L":  # 14 bits each, minus one, behind a signature byte
        bits = int.from_bytes(_part(data, 21, 4), "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":  # 14 bits each, the upper two scale
        width, height = _pair("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise DataError("not a readable picture: a WebP without a frame")


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2's first header
        return _pair("<HH", data, 18)
    width, height = _pair("<ii", data, 18)
    return abs(width), abs(height)  # a negative height: rows from the top


def _part(data: bytes, at: int, size: int) -> bytes:
    part: bytes = struct.unpack_from(f"{size}s", data, at)[0]
    return part
