"""Pictures in tar archives: what img2dataset writes (LAION), any WebDataset, any other uncompressed tar."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath

import pyarrow as pa

from scuba_ray.datasets.content import spread_digest
from scuba_ray.datasets.locations import MAX_BYTES, Location
from scuba_ray.datasets.pictures import EXTENSIONS
from scuba_ray.datasets.scanning import Scan, files_table
from scuba_ray.datasets.tar_members import Member, TarStream
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import BadRow

_REQUEST = 8 << 20
"""Bytes a scan asks for at a time."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_URI = re.compile(r"(.+)#(\d{1,18})\+(\d{1,18}):([0-9a-f]{8})", re.DOTALL)


class TarImages:
    """All pictures in the `.tar` files below a folder (or in one tar), in the order of the files and of their members.

    A member is a picture by the end of its name; others (`.json`, `.txt`) are not looked at, nor is what has a leading dot.
    `image_id` is the tar's relative path, a slash and the member's name, which is only ever a name. `uri` is
    `TAR#OFFSET+SIZE:CRC`, so that `read` is one ranged read, and finds out if the tar has changed since the scan.
    Picklable and safe for threads; the last 32 tars stay open.

    Raises
    ------
    ConfigError
        If there is nothing at the path.
    """

    def __init__(self, path: str) -> None:
        self._location = Location(path)

    def __reduce__(self) -> tuple[type[TarImages], tuple[str]]:
        return TarImages, (self._location.path,)

    def fingerprint(self) -> str:
        """Of all names and sizes, and 256 blocks of 64 KiB spread evenly over all bytes."""
        return spread_digest(self._files, self._location.read_at)

    def files(self) -> pa.Table:
        """Columns name and bytes, a row per tar.

        Raises
        ------
        ConfigError
            If there are compressed tars: their members cannot be read on their own.
        DataError
            If there are no tars.
        """
        return files_table(self._files, self._location.path, "files that end in .tar")

    def scan(self, names: Sequence[str]) -> tuple[pa.Table, list[BadRow]]:
        """The pictures in the tars `names`; one sequential pass over each, a picture in memory at a time.

        Where a tar is truncated or damaged, the members before are used and a bad row `file=...` says what is wrong. Links,
        sparse files and devices with a picture's name are bad rows; they are never followed.
        """
        scan = Scan()
        for name in names:
            try:
                with self._location.stream(name, _REQUEST) as stream:
                    tar = TarStream(stream)
                    for member in tar:
                        if _is_picture(member.name):
                            _take(name, member, tar, scan)
            except DataError as error:
                scan.damaged(name, f"{error}; the pictures before that are used")
        return scan.result()

    def read(self, uri: str) -> bytes:
        """Bytes of one picture, in one ranged read.

        Raises
        ------
        DataError
            If the uri is none of `scan`, the tar is not there, or other bytes are in this place now.
        OSError
            If the disk or network fails.
        """
        place = _URI.fullmatch(uri)
        if place is None or int(place[3]) > MAX_BYTES:
            raise DataError(f"{uri!r} is no picture in a tar: wanted FILE.tar#OFFSET+SIZE:CRC, as a scan gives it")
        data = self._location.read_at(place[1], int(place[2]), int(place[3]))
        if len(data) < int(place[3]) or f"{zlib.crc32(data):08x}" != place[4]:
            raise DataError(
                f"{place[1]} in {self._location.path} has changed since it was scanned: {uri!r} is another picture now"
            )
        return data

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        found = self._location.files({".tar", *_COMPRESSED})
        compressed = [name for name, _ in found if name.lower().endswith(_COMPRESSED)]
        if compressed:
            raise ConfigError(
                f"{compressed[0]} in {self._location.path} is compressed, so its members cannot be read on their own; decompress "
                f"it ({len(compressed)} such files)"
            )
        return found


def _is_picture(member: str) -> bool:
    path = PurePosixPath(member)
    hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return path.suffix.lower() in EXTENSIONS and not hidden


def _take(name: str, member: Member, tar: TarStream, scan: Scan) -> None:
    # names may be any bytes, a table's strings may not
    inner = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").removeprefix("./")
    image_id = f"{name}/{inner}"
    if member.oddity:
        scan.refuse(image_id, f"{member.oddity}, no plain file")
    elif member.size > MAX_BYTES:
        scan.refuse(image_id, f"{member.size:,} bytes, more than {MAX_BYTES:,}: no picture")
    else:
        data = tar.read(member)
        scan.add(image_id, f"{name}#{member.offset}+{member.size}:{zlib.crc32(data):08x}", data)
