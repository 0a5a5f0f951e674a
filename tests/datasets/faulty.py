"""Preprocessing that goes wrong on pictures of certain colours, as a decoder with a bug would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FAULTS = {
    (255, 0, 0): "crash",
    (0, 255, 0): "hang",
    (0, 0, 255): "crash once",
    (255, 255, 0): "raise",
    (0, 255, 255): "memory",
    (255, 0, 255): "talk",
}
"""What happens at a picture whose first pixel has this colour."""


@dataclass(frozen=True)
class Faulty:
    """A picture's pixels, 8 x 8, unless its colour says otherwise. `marks` is a folder to remember in."""

    marks: str

    def __call__(self, image: Image.Image) -> np.ndarray:
        red, green, blue = np.asarray(image)[0, 0].tolist()
        fault = FAULTS.get((red, green, blue))
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "hang":
            time.sleep(600)
        if fault == "crash once" and not (Path(self.marks) / "crashed").exists():
            (Path(self.marks) / "crashed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "raise":
            raise ValueError("yellow")
        if fault == "memory":
            raise MemoryError
        if fault == "talk":
            os.write(1, b"not the protocol")
            print("nor this", flush=True)
        (Path(self.marks) / f"pid-{os.getpid()}").touch()
        return np.asarray(image.resize((8, 8))).transpose(2, 0, 1)


def pids(marks: Path) -> list[int]:
    """Processes that have decoded a picture."""
    return sorted(int(path.name.removeprefix("pid-")) for path in marks.glob("pid-*"))


def alive(pid: int) -> bool:
    """Whether a process is there and more than a zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    """Wait until a process is gone; whether it is."""
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


@dataclass(frozen=True)
class FaultyThen:
    """`Faulty` first, then another preprocessing of the picture."""

    marks: str
    then: Callable[[Image.Image], np.ndarray]

    def __call__(self, image: Image.Image) -> np.ndarray:
        Faulty(self.marks)(image)
        return self.then(image)
