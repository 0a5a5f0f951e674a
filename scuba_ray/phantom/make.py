"""Write a phantom as files in the `arrays` layout: pictures, responses, a bank to project on, and the truth beside them.

    PATH/dataset.json ... responses.npy   as in `datasets/arrays.py`, read by everything like any user's data
    PATH/bank/000/00000.png ...           pictures for the bank: other scenes, drawings as they come
    PATH/truth.parquet, concepts.json     what was planted; only the recovery analysis reads them

The folder appears under its name when it is whole: an interrupted make leaves nothing behind but a hidden folder, which the next
one removes.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

from scuba_ray.errors import ConfigError, DataError
from scuba_ray.phantom.pictures import Progress
from scuba_ray.phantom.spec import PhantomSpec
from scuba_ray.phantom.writing import write_folder


def make_phantom(
    out: str | Path,
    *,
    seed: int = 0,
    voxels: int = 2000,
    images: int = 3000,
    bank: int = 20_000,
    permuted: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a phantom in the folder `out`, or find the same one there; returns the folder.

    Of the `images` stimuli one in ten is for testing. Test stimuli are the same for every seed (subjects share them, as in NSD);
    training stimuli, tuning, noise and bank are the seed's own. `permuted` deals the responses to other stimuli of the same
    split: the null run, in which nothing planted can be found. `progress(done, total)` counts pictures.

    Raises
    ------
    ConfigError
        If a number is out of range, or `out` holds anything but this phantom.
    DataError
        If the disk refuses, for want of room or otherwise.
    """
    spec, folder = PhantomSpec(seed, voxels, images, bank, permuted), Path(out).expanduser()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"cannot write a phantom to {folder}: {error}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_there(folder, spec):
            partial = folder.parent / f".{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                write_folder(partial, spec, progress or (lambda done, total: None))
            except OSError as error:
                raise DataError(f"the phantom could not be written to {folder}: {error}") from error
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
        (folder.parent / f".{folder.name}.lock").unlink(missing_ok=True)
    return folder


def _is_there(folder: Path, spec: PhantomSpec) -> bool:
    """Whether `folder` holds this phantom already; ConfigError if it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["phantom"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} is there and is no phantom; choose another folder") from error
    wanted = spec.identity()
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{folder} holds another phantom ({name} {found.get(name)}, wanted {value}); remove it or choose another"
            )
    return True
