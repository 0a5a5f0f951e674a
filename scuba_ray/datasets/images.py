"""A folder of pictures as an image source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import pyarrow as pa

from scuba_ray.datasets.content import readable_digest, text_digest
from scuba_ray.datasets.locations import Location
from scuba_ray.datasets.pictures import EXTENSIONS
from scuba_ray.datasets.scanning import Scan, files_table
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import BadRow

_SAMPLED = 256


class FolderImages:
    """All pictures below a folder (or a location that pyarrow.fs or fsspec knows), a file each, in the order of their paths.

    `image_id` and `uri` are the path relative to the folder, so a folder that moves keeps its ids. Hidden files and folders
    (a leading dot) are left out. Picklable and safe for threads: the listing is made on first use.

    Raises
    ------
    ConfigError
        If there is no such folder.
    """

    def __init__(self, path: str) -> None:
        self._location = Location(path)
        if not self._location.is_folder:
            raise ConfigError(f"{path} is a file; wanted the folder of the pictures")

    def __reduce__(self) -> tuple[type[FolderImages], tuple[str]]:
        return FolderImages, (self._location.path,)

    def fingerprint(self) -> str:
        """Of all names and sizes, and the bytes of 256 pictures spread evenly over the listing, as far as they can be read."""
        files = self._files
        sampled = sorted({index * (len(files) - 1) // (_SAMPLED - 1) for index in range(_SAMPLED)}) if files else []
        contents = [readable_digest(partial(self.read, files[index][0])) for index in sampled]
        return text_digest(*(f"{name}\n{size}" for name, size in files), *contents)

    def files(self) -> pa.Table:
        """Columns name and bytes, a row per picture. Raises DataError if there are none."""
        return files_table(self._files, self._location.path, f"files that end in {' '.join(sorted(EXTENSIONS))}")

    def scan(self, names: Sequence[str]) -> tuple[pa.Table, list[BadRow]]:
        """The pictures `names`. One that is empty, not there any more or that nobody may read comes as a bad row."""
        scan = Scan()
        for name in names:
            try:
                scan.add(name, name, self.read(name))
            except DataError as error:
                scan.refuse(name, str(error))
        return scan.result()

    def read(self, uri: str) -> bytes:
        """Bytes of one picture by its relative path; DataError if it is not there, OSError if the disk or network fails."""
        return self._location.read(uri)

    @cached_property
    def _files(self) -> list[tuple[str, int]]:
        """Relative path and size of every picture, sorted by path."""
        return self._location.files(EXTENSIONS)
