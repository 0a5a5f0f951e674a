"""Decoding in processes of its own: a picture that crashes the decoder costs itself, not the worker or the run.

Children are plain subprocesses (`datasets.decoder_child`): `multiprocessing` would import the user's main module again. They have
a session of their own, so that the terminal's Ctrl-C goes to the driver. Their address space is not limited: what a picture of
`max_pixels` needs depends on its format.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import queue
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.decoder_child import ANSWER, MEMORY, PIXELS, REASONS, REQUEST, SIZE, Preprocessing, fill, write
from scuba_ray.datasets.pictures import PictureError
from scuba_ray.errors import ConfigError

_CHILD = "scuba_ray.datasets.decoder_child"
_PIPE = 1 << 20
"""Bytes a pipe may hold, where the system allows: a picture's pixels then pass at once."""
_ENDED_SECONDS = 5.0
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # glibc keeps what a picture was decoded in for the next one; without, a quarter of the time goes into fresh pages
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 27),
}


class Decoder:
    """Decodes and preprocesses pictures in child processes. Any number of threads may call it; each call has a child to itself.

    Children start when they are first needed and are replaced when they die; they end with this object. Picklable: what
    travels has no children.

    Parameters
    ----------
    preprocessing : callable
        RGB picture to uint8 array (3, H, W); picklable, from an importable module.
    max_pixels : int
        Pixels above which a picture is refused.
    seconds : float
        How long one picture may take.
    children : int
        Most processes at once; further callers wait.
    """

    def __init__(self, preprocessing: Preprocessing, *, max_pixels: int, seconds: float, children: int) -> None:
        self._made_of = partial(Decoder, max_pixels=max_pixels, seconds=seconds, children=children), (preprocessing,)
        self._pickled = pickle.dumps(preprocessing)
        self._max_pixels, self._seconds = max_pixels, seconds
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(children):
            self._idle.put(None)
        self._close = weakref.finalize(self, _close, self._idle)

    def __reduce__(self) -> tuple[Callable[..., Decoder], tuple[Any, ...]]:
        return self._made_of

    def __call__(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Return the pixels (3, H, W) that a network reads of a picture.

        Raises
        ------
        PictureError
            With the reason: no picture, too large, took too long, or crashed the decoder (twice, the second time in a new one).
        MemoryError
            If there is not enough memory for it.
        ConfigError
            If decoders do not start.
        """
        child, healthy = self._idle.get(), None
        try:
            for last in (False, True):
                child = child or _Child(self._pickled)
                answer = child.decode(data, self._max_pixels, self._seconds)
                if answer is not None:
                    healthy = child
                    if isinstance(answer, Exception):
                        raise answer
                    return answer
                ended, child = child.ended(), None
                if ended == -signal.SIGALRM:
                    raise PictureError("too slow", f"took longer than {self._seconds:g} s to decode (encode.decode_seconds)")
                if last:
                    raise PictureError("crashed", f"crashed the decoder ({_in_words(ended)})")
            raise AssertionError("the last attempt returns or raises")
        finally:
            self._idle.put(healthy)

    def close(self) -> None:
        """End the children that are idle; safe to call twice."""
        self._close()


class _Child:
    """One decoder process, seen from its parent."""

    def __init__(self, preprocessing: bytes) -> None:
        # the parent's own module path, and nothing before it: what it imports, the child finds
        path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
        )
        self._to, self._from = cast(FileIO, self._process.stdin), cast(FileIO, self._process.stdout)
        for pipe in (self._to, self._from):
            _widen(pipe.fileno())
        answer = self._ask(SIZE.pack(len(preprocessing)), preprocessing)
        if answer is None or answer[0] != PIXELS:
            reason = f"it ended ({_in_words(self.ended())})" if answer is None else self._text(answer[1])
            raise ConfigError(
                f"a decoder process does not start: {reason}. A backbone's preprocessing must be picklable, from a module that "
                f"`python -m {_CHILD}` can import"
            )

    def decode(self, data: bytes, max_pixels: int, seconds: float) -> npt.NDArray[np.uint8] | Exception | None:
        """Return the pixels, or why there are none; None if the process died."""
        answer = self._ask(REQUEST.pack(len(data), max_pixels, seconds), data)
        if answer is None:
            return None
        status, *shape = answer
        if status == PIXELS:
            pixels_3HW = np.empty(shape, np.uint8)
            return pixels_3HW if fill(self._from, pixels_3HW.data.cast("B")) else None
        reason = self._text(shape[0])
        return MemoryError(reason) if status == MEMORY else PictureError(REASONS[status], reason)

    def ended(self) -> int:
        """Close the pipes and return the exit code (minus a signal's number)."""
        self._to.close()
        self._from.close()
        try:
            return self._process.wait(_ENDED_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ask(self, *parts: bytes) -> tuple[int, ...] | None:
        """Send a request and return the head of the answer; None if the process died."""
        try:
            for part in parts:
                write(self._to, part)
        except BrokenPipeError:
            return None
        head = bytearray(ANSWER.size)
        return ANSWER.unpack(head) if fill(self._from, memoryview(head)) else None

    def _text(self, size: int) -> str:
        text = bytearray(size)
        fill(self._from, memoryview(text))
        return text.decode()


def _close(idle: queue.LifoQueue[_Child | None]) -> None:
    while not idle.empty():
        child = idle.get()
        if child is not None:
            child.ended()


def _in_words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _widen(pipe: int) -> None:
    """Let a pipe hold a picture. A system that has no such call, or has given out its share, keeps its own size."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
