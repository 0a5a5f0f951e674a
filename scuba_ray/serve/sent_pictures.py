"""Pictures of a request: sent along as base64, or named by a URI below the folder that the service was given (`root`)."""

from __future__ import annotations

import binascii
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pyarrow.fs as pafs

from scuba_ray.config.serve import ServeConfig
from scuba_ray.errors import DataError
from scuba_ray.serve.picture_headers import picture_size
from scuba_ray.tables import files

_READERS = 8
_CHARACTERS = 1024
"""Characters of a URI at most."""


class SentPictures:
    """Reads the pictures of requests, each to its bytes or to the reason why not.

    Picklable. Reads from disks and stores: call it in a thread (`asyncio.to_thread`), not in the event loop.
    """

    def __init__(self, settings: ServeConfig) -> None:
        self.root = None if settings.root is None else files.normalise(settings.root)
        self.picture_bytes = int(settings.limits.picture_mib * 2**20)
        self.request_bytes = int(settings.limits.body_mib * 2**20)
        self.pixels = settings.limits.pixels

    def read(self, sent: Sequence[tuple[str | None, str | None]]) -> list[bytes | str]:
        """Return, for each (base64, uri), the picture's bytes (PNG, JPEG, WebP, GIF, BMP) or in words why there are none.

        Exactly one of the two must be given. A reason names the picture as the client did, never where it lies. All pictures
        of a request have room for as many bytes together as its body: a few bytes of URIs must not fill the memory.
        """
        room = _Room(self.request_bytes)
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(lambda one: self._read(one[0], one[1], room), sent))

    def _read(self, base64: str | None, uri: str | None, room: _Room) -> bytes | str:
        try:
            if base64 is not None and uri is None:
                data = self._decoded(base64)
            elif uri is not None and base64 is None:
                data = self._found(uri, room)
            else:
                raise DataError("wanted either data (base64) or uri")
            width, height = picture_size(data)
            if width * height > self.pixels:
                raise DataError(f"{width} x {height} pixels, more than {self.pixels:,} (limits.pixels)")
        except DataError as error:
            return str(error)
        return data

    def _decoded(self, base64: str) -> bytes:
        self._check(len(base64) // 4 * 3)
        try:
            return binascii.a2b_base64(base64, strict_mode=True)
        except ValueError as error:  # binascii.Error, and text that is not ASCII
            raise DataError(
                "data is not base64 (standard alphabet, with padding, without line breaks or a data: prefix)"
            ) from error

    def _check(self, size: int) -> None:
        if size > self.picture_bytes:
            raise DataError(f"a picture of {size:,} bytes, more than {self.picture_bytes:,} (limits.picture_mib)")

    def _found(self, uri: str, room: _Room) -> bytes:
        if self.root is None:
            raise DataError("this service reads no pictures by URI; send them along as data (base64)")
        name = uri.removeprefix(f"{self.root}/")
        bare = not set(name) & set("\\?#%") or files.is_local(self.root)
        whole = all(part not in {"", ".", ".."} for part in name.split("/"))
        if not (name.isprintable() and len(name) <= _CHARACTERS and bare and whole):
            raise DataError("a uri must be a path below the service's folder of pictures, such as 'faces/0001.png'")
        try:
            if files.is_local(self.root):
                return self._from_disk(self.root, name, room)
            return self._from_store(self.root, name, room)
        except (OSError, ValueError, RuntimeError) as error:
            # one answer for what is not there, may not be read, lies outside or is a circle of links (RuntimeError): nothing can
            # be learned about other files
            raise DataError(f"{name!r}: there is no such picture that can be read") from error

    def _from_disk(self, root: str, name: str, room: _Room) -> bytes:
        """By its real place: links may lead anywhere inside the folder, and nowhere else."""
        place = (Path(root) / name).resolve(strict=True)
        if not place.is_relative_to(Path(root).resolve(strict=True)):
            raise PermissionError("outside")
        # never waits for a pipe's other end, never follows a link put there since
        opened = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            about = os.fstat(opened)
            if not stat.S_ISREG(about.st_mode):
                raise PermissionError("no file")
            self._check(about.st_size)
            room.take(about.st_size)
            return file.read(about.st_size)

    def _from_store(self, root: str, name: str, room: _Room) -> bytes:
        filesystem, base = files.filesystem(root)
        place = f"{base}/{name}"
        about = filesystem.get_file_info(place)
        if about.type != pafs.FileType.File:
            raise FileNotFoundError("no file")
        with filesystem.open_input_file(place) as file:
            size = file.size()
            self._check(size)
            room.take(size)
            data: bytes = file.read(size)
        return data


class _Room:
    """Bytes that the pictures of one request may still fill."""

    def __init__(self, size: int) -> None:
        self._size, self._left, self._lock = size, size, Lock()

    def take(self, size: int) -> None:
        with self._lock:
            if size > self._left:
                raise DataError(f"the pictures of one request may have {self._size:,} bytes together (limits.body_mib)")
            self._left -= size
