"""LAION-fMRI's stimuli: picture files by row of one HDF5 data set, names and captions from tables beside it, splits."""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from scuba_ray.datasets.content import file_digest
from scuba_ray.errors import DataError

_NAME = "image_name"
_NAMED = 3


class EncodedPictures:
    """Picture files (JPEG) kept as bytes in an HDF5 data set (one variable-length uint8 row each) by `uri`, the row from 0.

    Picklable: a worker opens the file anew.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds no such data set.
    """

    def __init__(self, path: str, key: str) -> None:
        self._path, self._key = Path(path), key
        import h5py

        kind = h5py.check_vlen_dtype(self._rows.dtype)
        if len(self._rows.shape) != 1 or kind != "uint8":
            raise DataError(
                f"{path}: {key} is {self._rows.dtype} of shape {self._rows.shape}, wanted one row of bytes (variable-length "
                "uint8) for each picture"
            )
        self.count: int = self._rows.shape[0]

    def __reduce__(self) -> tuple[type[EncodedPictures], tuple[str, str]]:
        return EncodedPictures, (str(self._path), self._key)

    def fingerprint(self) -> str:
        """Of the file's size and bytes (of a large file a sample, see `file_digest`)."""
        return file_digest(self._path)

    def read(self, uri: str) -> bytes:
        """Bytes of one picture. DataError if there is no such picture, OSError if the disk or network fails."""
        if not uri.isdecimal() or int(uri) >= self.count:
            raise DataError(f"{self._path} has no picture {uri!r}: they are numbered 0 to {self.count - 1}")
        data: bytes = self._rows[int(uri)].tobytes()
        return data

    @cached_property
    def _rows(self) -> Any:
        import h5py

        if not self._path.is_file():
            raise DataError(
                f"{self._path.name} is missing in {self._path.parent}: it holds the pictures, which need an agreement with the "
                "data set's authors"
            )
        try:
            file = h5py.File(self._path, "r", locking=False)
        except OSError as error:
            raise DataError(f"{self._path} is no readable HDF5 file, or not whole: {error}") from error
        if self._key not in file:
            raise DataError(
                f"{self._path} has no data set {self._key!r}; it has {', '.join(file) or 'none'} (option `images_key`)"
            )
        return file[self._key]


def rows_of_images(path: Path, pictures: int) -> dict[str, int]:
    """Row of each image in the HDF5 file, by name, from the table of the stimuli.

    Raises
    ------
    DataError
        If the table is missing, names an image twice, or has not one row per picture.
    """
    names = [row[_NAME] for row in _read_csv(path, (_NAME,))]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {_NAME} must be unique, but {twice[0]} is there more than once")
    if len(names) != pictures:
        raise DataError(
            f"{path} has {len(names)} rows, but the HDF5 file beside it has {pictures} pictures: one row each is wanted"
        )
    return {name: row for row, name in enumerate(names)}


def captions_of(path: Path, source: str) -> dict[str, str]:
    """The best caption (lowest `caption_idx`) of each image from one source, `human` or `ai`.

    Raises
    ------
    DataError
        If a column is missing, or a rank is no number.
    """
    best: dict[str, tuple[int, str]] = {}
    for row in _read_csv(path, (_NAME, "caption_idx", "source", "caption")):
        if row["source"] == source:
            if not row["caption_idx"].isdecimal():
                raise DataError(f"{path}: caption_idx must be a whole number, got {row['caption_idx']!r}")
            said = (int(row["caption_idx"]), " ".join(row["caption"].split()))
            best[row[_NAME]] = min(best.get(row[_NAME], said), said)
    return {name: caption for name, (_, caption) in best.items()}


def read_split(path: Path) -> tuple[set[str], set[str]]:
    """Names of training and test images from one of the splits that come with the data set's own package.

    Raises
    ------
    DataError
        If it is no such file, or an image is in both.
    """
    try:
        variants = json.loads(path.read_text(encoding="utf-8"))["variants"]
        if len(variants) != 1:
            raise DataError(f"{path} has {len(variants)} variants, wanted one")
        train, test = (set(map(str, variants[0][name])) for name in ("train_ids", "test_ids"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no split of LAION-fMRI: wanted JSON whose one entry in `variants` has train_ids and test_ids ({error!r})"
        ) from error
    if train & test:
        raise DataError(f"{path}: {len(train & test)} images are for training and for testing, such as {min(train & test)}")
    return train, test


def check_shown(names: list[str], rows: dict[str, int], table: Path) -> None:
    """Raise DataError unless every image that was shown is in the table of the stimuli."""
    unknown = sorted(set(names) - rows.keys())
    if unknown:
        raise DataError(f"trials name {len(unknown)} images that {table} does not have: {', '.join(unknown[:_NAMED])}")


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            raise DataError(f"{path} lacks column {absent[0]!r}; it has {', '.join(reader.fieldnames or ())}")
        return list(reader)
