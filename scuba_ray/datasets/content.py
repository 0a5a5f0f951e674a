"""Content fingerprints of files: what is in them, never when they were written, at a cost that does not grow with them."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

from scuba_ray.datasets.places import Place
from scuba_ray.errors import DataError

BLOCK = 1 << 20
"""Bytes read at a time."""
WHOLE = 256 << 20
"""Files up to this many bytes are read whole; of larger ones `SAMPLES` blocks are read, first and last among them."""
SAMPLES = 64
_SPREAD, _SPREAD_BLOCK = 256, 1 << 16


def file_digest(path: Place) -> str:
    """SHA-256 of a file's size and bytes; of a file above 256 MiB, of its size and 64 evenly spaced blocks of 1 MiB.

    The sample misses a change that lies between blocks: a file that large is taken to be replaced as a whole, not edited.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}:".encode())
    with path.open("rb") as file:
        if size <= WHOLE:
            while block := file.read(BLOCK):
                digest.update(block)
        else:
            for index in range(SAMPLES):
                file.seek((size - BLOCK) * index // (SAMPLES - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def text_digest(*lines: str) -> str:
    """SHA-256 of some texts, each ended so that no two lists of texts look alike."""
    digest = hashlib.sha256()
    for line in lines:
        data = line.encode("utf-8", "surrogateescape")
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def picture_digest(data: bytes) -> str:
    """BLAKE2b of a picture's bytes, 128 bits as 32 hex digits: pictures with the same digest are the same file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def readable_digest(read: Callable[[], bytes]) -> str:
    """SHA-256 of what `read` gives; of a file that cannot be read (DataError) no more than that: a scan will say why."""
    try:
        return hashlib.sha256(read()).hexdigest()
    except DataError:
        return "unreadable"


def spread_digest(files: Sequence[tuple[str, int]], read_at: Callable[[str, int, int], bytes]) -> str:
    """SHA-256 of names and sizes, and of 256 blocks of 64 KiB spread evenly over all bytes, end to end.

    Up to 16 MiB in all every byte is in it. Beyond, a change that lies between blocks and keeps all sizes is not seen.

    Parameters
    ----------
    files : sequence of (name, bytes)
    read_at : function of name, offset and size
    """
    ends = list(accumulate(size for _, size in files))
    last = max(ends[-1] - _SPREAD_BLOCK, 0) if ends else 0
    digests = [f"{name}\n{size}" for name, size in files]
    for start in sorted({last * index // (_SPREAD - 1) for index in range(_SPREAD)}):
        index, place, wanted = bisect_right(ends, start), start, _SPREAD_BLOCK
        while wanted and index < len(files):
            size = min(wanted, ends[index] - place)
            name, whole = files[index]
            digests.append(readable_digest(partial(read_at, name, place - ends[index] + whole, size)))
            index, place, wanted = index + 1, place + size, wanted - size
    return text_digest(*digests)
