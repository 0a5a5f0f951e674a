"""What a scan of a source's files collects, the same for every source: pictures with the digest of their bytes, and bad rows."""

from __future__ import annotations

import pyarrow as pa

from scuba_ray.datasets.content import picture_digest
from scuba_ray.errors import DataError
from scuba_ray.protocols import BadRow

_FILES = pa.schema([("name", pa.string()), ("bytes", pa.int64())])
_SCANNED = pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("bytes", pa.int64()), ("digest", pa.string())])


def files_table(found: list[tuple[str, int]], path: str, wanted: str) -> pa.Table:
    """The table of `ImageSource.files`. Raises DataError if nothing was found at `path`."""
    if not found:
        raise DataError(f"no pictures below {path}: wanted {wanted}")
    return pa.table({"name": [name for name, _ in found], "bytes": [size for _, size in found]}, schema=_FILES)


class Scan:
    """Collects the answer of `ImageSource.scan`."""

    def __init__(self) -> None:
        self.bad: list[BadRow] = []
        self._rows: list[tuple[str, str, int, str]] = []
        self._ids: set[str] = set()

    def add(self, image_id: str, uri: str, data: bytes) -> None:
        """One picture; a bad row instead if it is empty or its id has come before."""
        if not data:
            self.refuse(image_id, "empty file")
        elif image_id in self._ids:
            self.refuse(image_id, "a second picture with this id; the first one stays")
        else:
            self._ids.add(image_id)
            self._rows.append((image_id, uri, len(data), picture_digest(data)))

    def refuse(self, image_id: str, reason: str) -> None:
        """A picture that cannot be used."""
        self.bad.append(BadRow(f"image_id={image_id}", reason))

    def damaged(self, name: str, reason: str) -> None:
        """A file that cannot be read, or not to its end."""
        self.bad.append(BadRow(f"file={name}", reason))

    def result(self) -> tuple[pa.Table, list[BadRow]]:
        """The answer."""
        columns = {name: [row[index] for row in self._rows] for index, name in enumerate(_SCANNED.names)}
        return pa.table(columns, schema=_SCANNED), self.bad
