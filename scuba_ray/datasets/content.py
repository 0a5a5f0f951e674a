"""Content fingerprints of files: what is in them, never when they were written, at a cost that does not grow with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK = 1 << 20
"""Bytes read at a time."""
WHOLE = 256 << 20
"""Files up to this many bytes are read whole; of larger ones `SAMPLES` blocks are read, first and last among them."""
SAMPLES = 64


def file_digest(path: Path) -> str:
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
