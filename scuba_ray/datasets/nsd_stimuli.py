"""NSD's stimuli: what they are called, their COCO ids, and captions from COCO's own annotation files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Set

import pyarrow as pa

from scuba_ray.datasets.places import Place, open_text
from scuba_ray.errors import DataError

BRICK = "imgBrick"
"""Data set of the pictures in `nsd_stimuli.hdf5`."""


def stimulus_id(image: int) -> str:
    """What an image, counted from 0, is called in every table."""
    return f"nsd-{image:05d}"


def stimuli_table(images: list[int], tests: Set[int], coco_list: Place, captions: Place | None) -> tuple[pa.Table, list[str]]:
    """Columns stimulus_id, uri, split, caption, coco_id of some images, and what a reader should know.

    Parameters
    ----------
    coco_list : Place
        `nsd_stim_info_merged.csv`, which may be missing where no captions are wanted.
    captions : Place or None
        Folder of COCO's captions.

    Raises
    ------
    DataError
        If captions are wanted and a file is missing, or one is not as its format says.
    """
    notes = []
    coco: dict[int, int] = {}
    said: dict[int, str] = {}
    if coco_list.is_file():
        coco = coco_ids(coco_list)
    elif captions is None:
        notes.append(f"no COCO ids: {coco_list.name} is missing in {coco_list.parent}")
    else:
        raise DataError(f"captions need COCO ids, but {coco_list.name} is missing in {coco_list.parent}")
    if captions is not None:
        said = coco_captions(captions, {coco[image] for image in images if image in coco})
    columns = {
        "stimulus_id": [stimulus_id(image) for image in images],
        "uri": [str(image) for image in images],
        "split": ["test" if image in tests else "train" for image in images],
        "caption": pa.array([said.get(coco.get(image, -1)) for image in images], pa.string()),
        "coco_id": pa.array([coco.get(image) for image in images], pa.int64()),
    }
    return pa.table(columns), notes


def coco_ids(path: Place) -> dict[int, int]:
    """COCO's id of each image (counted from 0), from `nsd_stim_info_merged.csv`.

    Raises
    ------
    DataError
        If a column is missing, a value is no number or an image is there twice.
    """
    try:
        rows = [(int(row["nsdId"]), int(row["cocoId"])) for row in csv.DictReader(open_text(path))]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: wanted whole numbers in the columns nsdId and cocoId, got {error!r}") from error
    found: dict[int, int] = {}
    for image, coco in rows:
        if found.setdefault(image, coco) != coco:
            raise DataError(f"{path}: image {image} is there more than once, with different COCO ids")
    return found


def coco_captions(folder: Place, wanted: Iterable[int]) -> dict[int, str]:
    """The first caption (lowest annotation id) of COCO images, from every `captions_*.json` in a folder.

    Raises
    ------
    DataError
        If there is no such file, or one is not COCO's format.
    """
    files: list[Place] = [*folder.glob("captions_*.json")]
    if not files:
        raise DataError(f"no captions_*.json in {folder}: wanted COCO's captions_train2017.json and captions_val2017.json")
    wanted_ids, found = set(wanted), dict[int, tuple[int, str]]()
    for path in sorted(files, key=str):
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["annotations"]
            for row in rows:
                if row["image_id"] in wanted_ids:
                    said = (int(row["id"]), " ".join(str(row["caption"]).split()))
                    found[row["image_id"]] = min(found.get(row["image_id"], said), said)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not in COCO's format: {error!r}") from error
    return {image: caption for image, (_, caption) in found.items()}
