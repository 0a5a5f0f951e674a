"""A file on an object store for whoever reads from files: by ranges, in blocks, some of which are kept. No disk is used."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scuba_ray.datasets.store_paths import StorePath

BLOCK = 1 << 20
"""Bytes that are asked for at a time, and kept; of a file that is read on and on up to `_AHEAD` of them."""
_AHEAD, _HELD = 8, 16


class StoreError(OSError):
    """The store or the network failed. It may pass."""


class StoreFile(io.RawIOBase):
    """A file that is open on a store, for whoever reads from Python's files. At most `_HELD` MiB of it are held, and one request.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """

    def __init__(self, path: StorePath) -> None:
        super().__init__()
        self._path, self._at, self._ahead, self._next = path, 0, 1, -1
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        filesystem, place = path.on_filesystem()
        with path.reached():
            self._file = filesystem.open_input_file(place)
            self._size = int(self._file.size())

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; nothing is asked of the store."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Bytes up to the end of the file, or `size` of them."""
        left = max(self._size - self._at, 0)
        buffer = bytearray(left if size is None or size < 0 else min(size, left))
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the file goes."""
        view = memoryview(buffer).cast("B")
        filled, wanted = 0, min(len(view), max(self._size - self._at, 0))
        while filled < wanted:
            data = self._piece(self._at, wanted - filled)
            view[filled : filled + len(data)] = data
            filled, self._at = filled + len(data), self._at + len(data)
        return filled

    def read_at(self, at: int, wanted: int) -> bytes:
        """Bytes from a place in one request, of which nothing is kept; fewer where the file ends."""
        return self._request(at, wanted)

    def close(self) -> None:
        """Let go of the file."""
        if not self.closed:
            self._blocks.clear()
            self._file.close()
        super().close()

    def _piece(self, at: int, wanted: int) -> bytes | memoryview:
        """Some bytes from a place: those of a block, or of one request for many blocks, of which none is kept."""
        number, within = divmod(at, BLOCK)
        if number not in self._blocks and wanted >= BLOCK:
            return self._request(at, min(wanted, _AHEAD * BLOCK))
        if number not in self._blocks:
            self._ahead = min(2 * self._ahead, _AHEAD) if number == self._next else 1
            data = self._request(number * BLOCK, self._ahead * BLOCK)
            for first in range(0, len(data), BLOCK):
                self._blocks[number + first // BLOCK] = data[first : first + BLOCK]
            self._next = number + self._ahead
            while len(self._blocks) > _HELD:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return memoryview(self._blocks[number])[within : within + wanted]

    def _request(self, at: int, wanted: int) -> bytes:
        wanted = max(min(wanted, self._size - at), 0)
        with self._path.reached():
            data: bytes = self._file.read_at(wanted, at)
        if len(data) < wanted:
            raise StoreError(f"{self._path} ends {wanted - len(data)} bytes early: was it changed while it was read?")
        return data
