"""The process that decodes: reads requests on stdin, answers on stdout, numbers little-endian.

    parent  u64 size, the pickled preprocessing (our own object)              child  an answer without values: it is ready
    parent  u64 size, u64 max_pixels, f64 seconds, the picture's bytes        child  u8 status, 3 x u32 shape (or size), the rest

It ends when its parent does (stdin closes), and by itself when a picture takes too long (SIGALRM), wherever it hangs.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
from collections.abc import Callable
from io import FileIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from scuba_ray.datasets.pictures import Kind, PictureError, decode_image

Preprocessing = Callable[[Image.Image], npt.NDArray[np.uint8]]

SIZE, REQUEST, ANSWER = struct.Struct("<Q"), struct.Struct("<QQd"), struct.Struct("<BIII")
PIXELS, MEMORY = 0, 1
REASONS: dict[int, Kind] = {2: "unreadable", 3: "too large"}
"""Statuses that carry a reason in words, and what they count as."""


def serve() -> None:
    """Answer requests until stdin closes. What libraries print goes to stderr: stdout is the protocol's alone."""
    requests, answers = FileIO(os.dup(0), "rb"), FileIO(os.dup(1), "wb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    (size,) = SIZE.unpack(_read(requests, SIZE.size))
    try:
        preprocessing: Preprocessing = pickle.loads(_read(requests, size))
    except Exception as error:
        _say(answers, 2, f"{type(error).__name__}: {error}")
        return
    write(answers, ANSWER.pack(PIXELS, 0, 0, 0))
    while True:
        size, max_pixels, seconds = REQUEST.unpack(_read(requests, REQUEST.size))
        data = _read(requests, size)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        _answer(answers, data, max_pixels, preprocessing)


def fill(pipe: FileIO, buffer: memoryview) -> bool:
    """Read until the buffer is full; False if the other end closed before."""
    while buffer:
        count = pipe.readinto(buffer)
        if not count:
            return False
        buffer = buffer[count:]
    return True


def write(pipe: FileIO, data: bytes | memoryview) -> None:
    """Write all of it. Raises BrokenPipeError if the other end is closed."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]


def _answer(answers: FileIO, data: bytearray, max_pixels: int, preprocessing: Preprocessing) -> None:
    # Pillow's own guard, which also holds for pictures within pictures, must not be narrower
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    try:
        pixels_3HW = np.ascontiguousarray(preprocessing(decode_image(bytes(data), max_pixels)), np.uint8)
    except PictureError as error:
        status, reason = next(status for status, kind in REASONS.items() if kind == error.kind), str(error)
    except MemoryError as error:
        status, reason = MEMORY, f"not enough memory to decode a picture of {len(data)} bytes {error}".rstrip()
    except Exception as error:
        # whatever a plugin's preprocessing raises: one picture's fault, said in words, and the next picture is tried
        status, reason = 2, f"cannot be preprocessed: {type(error).__name__}: {error}"
    else:
        status, reason = PIXELS, ""
    signal.setitimer(signal.ITIMER_REAL, 0)
    if status == PIXELS:
        write(answers, ANSWER.pack(PIXELS, *pixels_3HW.shape) + pixels_3HW.tobytes())
    else:
        _say(answers, status, reason)


def _say(answers: FileIO, status: int, reason: str) -> None:
    text = reason.encode()
    write(answers, ANSWER.pack(status, len(text), 0, 0) + text)


def _read(requests: FileIO, size: int) -> bytearray:
    """That many bytes; the process ends when its parent is gone."""
    data = bytearray(size)
    if not fill(requests, memoryview(data)):
        raise SystemExit(0)
    return data


if __name__ == "__main__":
    serve()
