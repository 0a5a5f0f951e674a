"""Where NSD's files lie below its root, which sessions are there, and the names of labels. Nothing here reads a volume."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from scuba_ray.datasets.geometry import HEMISPHERES
from scuba_ray.datasets.places import Place
from scuba_ray.errors import ConfigError, DataError

SURFACE = "fsaverage"
SPACES = ("func1pt8mm", "func1mm", SURFACE)
"""Spaces betas are prepared in; the transforms call the volumes func1pt8 and func1pt0."""
_TRANSFORM_NAMES = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}
Format = Literal["nifti", "hdf5", "mgh"]
_SUFFIXES: dict[Format, tuple[str, ...]] = {"hdf5": (".hdf5",), "nifti": (".nii.gz", ".nii"), "mgh": (".mgh", ".mgz")}
_SESSION = re.compile(r"(?:[lr]h\.)?betas_session(\d+)\.")


@dataclass(frozen=True)
class SessionFiles:
    """The file of a session's betas, or the two of a surface's, left hemisphere first."""

    session: int
    format: Format
    paths: tuple[Place, ...]


@dataclass(frozen=True)
class NsdFolder:
    """One subject's files in one space.

    Raises
    ------
    ConfigError
        If `root` is not a folder that holds nsddata and nsddata_betas.
    """

    root: Place
    subject: int
    space: str
    betas_name: str

    def __post_init__(self) -> None:
        missing = [name for name in ("nsddata", "nsddata_betas") if not (self.root / name).is_dir()]
        if missing:
            raise ConfigError(
                f"no NSD at {self.root}: it has no folder {missing[0]}; wanted is the folder that holds nsddata, nsddata_betas "
                "and nsddata_stimuli"
            )

    @property
    def name(self) -> str:
        """The subject as NSD's folders are called."""
        return f"subj{self.subject:02d}"

    @property
    def design(self) -> Place:
        """Who saw what when."""
        return self.root / "nsddata/experiments/nsd/nsd_expdesign.mat"

    @property
    def image_list(self) -> Place:
        """Every image, with COCO's ids."""
        return self.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"

    @property
    def stimuli(self) -> Place:
        """The pictures."""
        return self.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"

    @property
    def betas(self) -> Place:
        """Folder of the betas and ncsnr."""
        return self.root / "nsddata_betas/ppdata" / self.name / self.space / self.betas_name

    @property
    def volumes(self) -> Place:
        """Folder of maps and regions in the betas' volume."""
        return self.root / "nsddata/ppdata" / self.name / self.space

    @property
    def fsaverage(self) -> Place:
        """NSD's copy of fsaverage."""
        return self.root / "nsddata/freesurfer/fsaverage"

    def labels(self) -> tuple[Place, Place]:
        """Folders of surface labels and colour tables: fsaverage's (atlases) and the subject's own."""
        return self.fsaverage / "label", self.root / "nsddata/freesurfer" / self.name / "label"

    def to_white(self, hemi: str) -> Place:
        """For each vertex of fsaverage, the subject's own vertex (from 1)."""
        return self.root / "nsddata/ppdata" / self.name / "transforms" / f"{hemi}.white-to-fsaverage.mgz"

    def to_layer(self, hemi: str) -> Place:
        """For each of the subject's own vertices, half way through the cortex, its place in the volume (from 1)."""
        name = f"{hemi}.{_TRANSFORM_NAMES.get(self.space, 'func1pt8')}-to-layerB2.mgz"
        return self.root / "nsddata/ppdata" / self.name / "transforms" / name

    def sessions(self, wanted: list[int] | None, planned: int, wanted_format: str) -> list[SessionFiles]:
        """The sessions that are read: those on disk, or those `wanted`.

        Raises
        ------
        ConfigError
            If `wanted` names a session that NSD does not have.
        DataError
            If there is none, a session in the middle or a hemisphere is missing, or a wanted one is; the file is named.
        """
        formats: tuple[Format, ...] = ("mgh",) if self.space == SURFACE else ("hdf5", "nifti")
        formats = tuple(one for one in formats if one == wanted_format) or formats
        found = self._found(formats)
        if not found:
            example = self._names(1, formats[-1])[0][0]
            raise DataError(f"no betas in {self.betas}: wanted files such as {example}")
        numbers = sorted(found) if wanted is None else sorted(set(wanted))
        if numbers[0] < 1 or numbers[-1] > planned:
            raise ConfigError(f"sessions of NSD are 1 to {planned}, got {numbers[0]} to {numbers[-1]} in {self.betas}")
        if wanted is None:
            numbers = list(range(1, numbers[-1] + 1))
        return [self._session(number, formats, found, chosen=wanted is not None) for number in numbers]

    def _found(self, formats: tuple[Format, ...]) -> set[int]:
        suffixes = tuple(suffix for one in formats for suffix in _SUFFIXES[one])
        names = [path.name for path in self.betas.iterdir()] if self.betas.is_dir() else []
        return {int(match[1]) for name in names if name.endswith(suffixes) and (match := _SESSION.match(name))}

    def _names(self, session: int, kind: Format) -> list[tuple[str, ...]]:
        """Names that a session's files may have, hemispheres together."""
        hemis = [f"{hemi}." for hemi in HEMISPHERES] if kind == "mgh" else [""]
        return [tuple(f"{hemi}betas_session{session:02d}{suffix}" for hemi in hemis) for suffix in _SUFFIXES[kind]]

    def _session(self, session: int, formats: tuple[Format, ...], found: set[int], *, chosen: bool) -> SessionFiles:
        for kind in formats:
            for names in self._names(session, kind):
                paths = tuple(self.betas / name for name in names)
                if all(path.is_file() for path in paths):
                    return SessionFiles(session, kind, paths)
        missing = next(name for name in self._names(session, formats[-1])[0] if not (self.betas / name).is_file())
        there = f"sessions on disk: {ranges(sorted(found))}"
        advice = "" if chosen else "; copy it, or list the sessions to use in the option `sessions`"
        raise DataError(f"session {session} is missing: no {missing} in {self.betas} ({there}){advice}")


def ranges(numbers: list[int]) -> str:
    """Sorted numbers in words: 1-3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def read_colour_table(path: Place) -> dict[int, str]:
    """Names of labels: a number, a name and perhaps a colour a line; 0 is what has no label.

    Raises
    ------
    DataError
        If a line does not begin with a number and a name, or the file is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no colour table: {error}") from error
    names = {}
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not words[0].isdecimal():
            raise DataError(f"{path}: wanted lines of a number and a name, got {line!r}")
        coloured = len(words) >= 6 and all(word.isdecimal() for word in words[-4:])
        names[int(words[0])] = " ".join(words[1:-4] if coloured else words[1:])
    return {number: name for number, name in names.items() if number > 0}
