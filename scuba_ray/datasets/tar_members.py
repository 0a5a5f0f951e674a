"""The members of a tar archive, from one pass over a stream, with what is wrong with it said instead of passed over.

Headers are read by Python's `tarfile`; its iteration is not used: it takes damage in the middle of an archive for the end.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scuba_ray.errors import DataError

BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
"""Bytes skipped at a time, and the most a header may hold."""
_PAX, _LONG = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}, {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_WITHOUT_DATA = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder", tarfile.FIFOTYPE: "a pipe",
}  # fmt: skip
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}


@dataclass(frozen=True)
class Member:
    """One member: its bytes are `[offset, offset + size)` of the archive."""

    name: str
    offset: int
    size: int
    oddity: str | None = None
    """What it is, where it is no plain file: its bytes are then not what its name promises."""


class TarStream:
    """A tar archive read forwards. Iterating gives its members; `read` a member's bytes before the next one is asked for.

    Raises
    ------
    DataError
        While iterating or reading, where the archive is damaged or truncated. What came before is sound.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._position = 0

    def __iter__(self) -> Iterator[Member]:
        name: str | None = None
        records: dict[str, str] = {}
        while (header := self._header()) is not None:
            info, oddity = header
            offset, size = self._position, info.size
            if info.type in _LONG | _PAX:
                text = self._small(size)
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    name = _text(text.split(b"\0", 1)[0])
                elif info.type in _PAX:
                    records = self._pax(text)
                continue
            if info.type in tarfile.REGULAR_TYPES and "size" in records:
                size = self._number(records["size"])
            if any(key.startswith("GNU.sparse.") for key in records):
                oddity = "a sparse file"
            if info.type != tarfile.XGLTYPE:
                yield Member(records.get("GNU.sparse.name", records.get("path", name or info.name)), offset, size, oddity)
                name, records = None, {}
            end = offset if info.type in _WITHOUT_DATA else offset + -(-size // BLOCK) * BLOCK
            self._skip(end - self._position, last=offset + size)
        self._check_nothing_follows()

    def read(self, member: Member) -> bytes:
        """The bytes of the member that came last."""
        data: bytes = self._stream.read(member.size)
        self._position += len(data)
        if len(data) < member.size:
            raise DataError(f"truncated: it ends {len(data):,} bytes into {member.name!r}, which has {member.size:,}")
        return data

    def _header(self) -> tuple[tarfile.TarInfo, str | None] | None:
        """The next header and what it is the header of, if no plain file; None at the end mark."""
        start = self._position
        block = self._stream.read(BLOCK)
        self._position += len(block)
        if len(block) < BLOCK:
            where = (
                "empty file"
                if not start and not block
                else f"truncated: it ends at byte {start + len(block):,} without an end mark"
            )
            raise DataError(where)
        if not any(block):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            kind = None if start else next((kind for magic, kind in _COMPRESSED.items() if block.startswith(magic)), None)
            if kind:
                raise DataError(f"compressed ({kind}): members cannot be read on their own; decompress it") from error
            raise DataError(f"damaged: no header of a member at byte {start:,} ({error})") from error
        if info.size < 0:
            raise DataError(f"damaged: a member of {info.size} bytes at byte {start:,}")
        if info.type != tarfile.GNUTYPE_SPARSE:
            return info, _WITHOUT_DATA.get(info.type, None if info.type in tarfile.REGULAR_TYPES else f"of type {info.type!r}")
        more = block[482]
        while more:
            more = self._small(BLOCK)[504]
        return info, "a sparse file"

    def _small(self, size: int) -> bytes:
        """What a header says in blocks of its own."""
        if size > _PIECE:
            raise DataError(f"damaged: a header of {size:,} bytes at byte {self._position:,}")
        padded = -(-size // BLOCK) * BLOCK
        data: bytes = self._stream.read(padded)
        self._position += len(data)
        if len(data) < padded:
            raise DataError(f"truncated: it ends in a header at byte {self._position:,}")
        return data[:size]

    def _pax(self, text: bytes) -> dict[str, str]:
        """The records of a PAX header: `LENGTH KEY=VALUE` and a line feed, LENGTH counting all of it."""
        records: dict[str, str] = {}
        while text.rstrip(b"\0"):
            digits = text.partition(b" ")[0]
            length = self._number(_text(digits))
            key, found, value = text[len(digits) + 1 : length - 1].partition(b"=")
            if not found or text[length - 1 : length] != b"\n":
                raise DataError(f"damaged: a PAX header before byte {self._position:,}")
            records[_text(key)] = _text(value)
            text = text[length:]
        return records

    def _number(self, digits: str) -> int:
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
            raise DataError(f"damaged: {digits[:20]!r} is no number, in a PAX header before byte {self._position:,}")
        return int(digits)

    def _skip(self, size: int, last: int) -> None:
        """Pass over `size` bytes; those from `last` on are padding."""
        while size > 0:
            read = len(self._stream.read(min(size, _PIECE)))
            self._position += read
            size -= read
            if not read:
                if self._position < last:
                    raise DataError(f"truncated: it ends at byte {self._position:,}, in a member that goes on to byte {last:,}")
                return

    def _check_nothing_follows(self) -> None:
        while data := self._stream.read(_PIECE):
            if any(data):
                raise DataError(f"more data after the end mark at byte {self._position:,}; are these several archives in one?")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
