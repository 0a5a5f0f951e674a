"""LAION-fMRI's stimuli: picture files by row of one HDF5 data set, names and captions from tables beside it, splits."""

from __future__ import annotations

import csv
import json
from collections import Counter

from scuba_ray.datasets.array_pictures import Hdf5Rows
from scuba_ray.datasets.places import Place, open_text
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import DataError

_NAME = "image_name"
_NAMED = 3


class EncodedPictures(Hdf5Rows):
    """Rows of bytes: picture files (JPEG), one variable-length uint8 row each.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds no such data set.
    """

    missing_hint = ", which need an agreement with the data set's authors"
    key_hint = " (option `images_key`)"

    def __init__(self, path: str, key: str) -> None:
        super().__init__(path, key)
        import h5py

        if len(self.rows.shape) != 1 or h5py.check_vlen_dtype(self.rows.dtype) != "uint8":
            raise DataError(
                f"{path}: {key} is {self.rows.dtype} of shape {self.rows.shape}, wanted one row of bytes (variable-length "
                "uint8) for each picture"
            )
        self.count = self.rows.shape[0]

    def read(self, uri: str) -> bytes:
        """Bytes of one picture. DataError if there is no such picture, OSError if the disk or network fails."""
        data: bytes = self.row(uri).tobytes()
        return data


def rows_of_images(path: Place, pictures: int) -> dict[str, int]:
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


def captions_of(path: Place, source: str) -> dict[str, str]:
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


def read_split(path: Place) -> tuple[set[str], set[str]]:
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
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no split of LAION-fMRI: wanted JSON whose one entry in `variants` has train_ids and test_ids ({error!r})"
        ) from error
    if train & test:
        raise DataError(f"{path}: {len(train & test)} images are for training and for testing, such as {min(train & test)}")
    return train, test


def check_shown(names: list[str], rows: dict[str, int], table: Place) -> None:
    """Raise DataError unless every image that was shown is in the table of the stimuli."""
    unknown = sorted(set(names) - rows.keys())
    if unknown:
        raise DataError(f"trials name {len(unknown)} images that {table} does not have: {', '.join(unknown[:_NAMED])}")


def _read_csv(path: Place, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}")
    reader = csv.DictReader(open_text(path))
    absent = [name for name in columns if name not in (reader.fieldnames or ())]
    if absent:
        raise DataError(f"{path} lacks column {absent[0]!r}; it has {', '.join(reader.fieldnames or ())}")
    return list(reader)
