"""What layouts of published files have in common: options that travel, tables that are told, counts, a sample of large files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from scuba_ray.datasets.content import spread_digest
from scuba_ray.datasets.places import Place, blocks
from scuba_ray.protocols import Pictures


class SubjectFiles:
    """One subject in somebody else's files. A layout's constructor fills the tables.

    Picklable: only `subject`, `path` and the options travel, a worker opens the files anew, wherever they lie.

    Parameters
    ----------
    subject, path : str
        What results call the subject, and where its data set is.
    given : mapping
        The constructor's `locals()`: its options, as they were given.
    """

    _stimuli: pa.Table
    _trials: pa.Table
    _voxels: pa.Table
    _pictures: Pictures

    def __init__(self, subject: str, path: str, given: Mapping[str, Any]) -> None:
        self.subject, self._path = subject, path
        self._options = {name: value for name, value in given.items() if name not in {"self", "subject", "path", "__class__"}}
        self._notes: list[str] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._options), (self.subject, self._path)

    def stimuli(self) -> pa.Table:
        """Columns stimulus_id, uri, split, caption (null where there is none)."""
        return self._stimuli

    def images(self) -> Pictures:
        """The pictures, by the `uri` of `stimuli()`."""
        return self._pictures

    def trials(self) -> pa.Table:
        """Columns trial, stimulus_id, session."""
        return self._trials

    def voxels(self) -> pa.Table:
        """Columns voxel_id, hemi, vertex, i, j, k (from 0), xyz, rois, ncsnr, in the column order of `read_session`."""
        return self._voxels

    def notes(self) -> list[str]:
        """What a reader should know of these files: what is missing, and how it was dealt with."""
        return list(self._notes)

    def _counts(self) -> dict[str, int]:
        """For `about`: how much there is."""
        tests = self._stimuli["split"].to_pylist().count("test")
        images = {"test_images": tests, "training_images": len(self._stimuli) - tests}
        return {"voxels": len(self._voxels), "trials": len(self._trials), **images}


def sampled_digest(paths: Iterable[tuple[str, Place]]) -> str:
    """Of files by name: all names and sizes, and a sample of the bytes (`content.spread_digest`)."""
    named = dict(paths)
    with blocks(named) as read_at:
        return spread_digest([(name, path.stat().st_size) for name, path in named.items()], read_at)
