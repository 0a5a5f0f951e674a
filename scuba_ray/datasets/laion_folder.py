"""Files of one subject of LAION-fMRI: sessions of single-trial betas, what each trial showed, regions, noise ceilings."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass

from scuba_ray.datasets.nsd_folder import ranges
from scuba_ray.datasets.places import Place, open_text, relative
from scuba_ray.errors import ConfigError, DataError

_SESSION = re.compile(r"ses-(\d+)")
_SHOWN = 8
_INDEX = "beta_index"


@dataclass(frozen=True)
class LaionFolder:
    """One subject's files below the folder of the whole data set. Names of files are what follows `sub-XX_` or `sub-XX_ses-YY_`.

    Raises
    ------
    ConfigError
        If there is no such data set or no such subject.
    """

    root: Place
    subject: str
    betas_name: str
    trials_name: str
    regions_folder: str

    def __post_init__(self) -> None:
        if not self.derivatives.is_dir():
            there = sorted(path.name for path in self.derivatives.parent.glob("sub-*"))
            raise ConfigError(
                f"no subject {self.subject!r} of LAION-fMRI at {self.root}: wanted {self.derivatives}; subjects there: "
                f"{', '.join(there) or 'none. `path` is the folder that holds derivatives and stimuli'}"
            )

    @property
    def derivatives(self) -> Place:
        """GLMsingle's results for this subject."""
        return self.root / "derivatives/glmsingle-tedana" / self.subject

    @property
    def brain(self) -> Place:
        """Mean explained variance, larger than 0 where betas were computed."""
        return self.derivatives / f"{self.subject}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"

    def ceiling(self, desc: str) -> Place:
        """A map of noise ceilings over sessions, such as Noiseceiling4rep."""
        return self.derivatives / f"{self.subject}_task-images_space-T1w_desc-{desc}_statmap.nii.gz"

    @property
    def surfaces(self) -> Place:
        """FreeSurfer's surfaces of this subject."""
        return self.root / "derivatives/freesurfer" / self.subject / "surf"

    def stimuli(self, name: str) -> Place:
        """A file of the stimuli, `task-images_NAME`."""
        return self.root / f"stimuli/task-images_{name}"

    def betas(self, session: int) -> Place:
        """Single-trial betas (X, Y, Z, trials) of a session."""
        return self._session_file(session, self.betas_name)

    def sessions(self, wanted: list[int] | None) -> list[int]:
        """The sessions that are read: those on disk, or those `wanted`.

        Raises
        ------
        DataError
            If there is none, one in the middle is missing, or a wanted one is; the file is named.
        """
        folders = [(int(match[1]), path) for path in self.derivatives.iterdir() if (match := _SESSION.fullmatch(path.name))]
        found = sorted(number for number, _ in folders if self.betas(number).is_file())
        if not found:
            near = sorted(path.name for _, folder in folders for path in folder.rglob("*.nii*"))
            raise DataError(
                f"no session of {self.subject} has a file {self.betas(1).name}; {_listed(near)}. If the names differ in your "
                "release, give what follows sub-XX_ses-YY_ in the options `betas` and `trials`"
            )
        numbers = sorted(set(wanted)) if wanted is not None else list(range(found[0], found[-1] + 1))
        missing = [number for number in numbers if number not in found]
        if missing:
            raise DataError(
                f"session {missing[0]} is missing: no {self.betas(missing[0])} (sessions on disk: {ranges(found)}); copy it, or "
                "list the sessions to use in the option `sessions`"
            )
        return numbers

    def shown(self, session: int, column: str) -> list[str]:
        """Names of the images of a session's trials, in the order of its volumes.

        Raises
        ------
        DataError
            If the table is missing or lacks a column, or its volumes are not numbered from 0, each once.
        """
        path = self._session_file(session, self.trials_name)
        if not path.is_file():
            near = sorted(one.name for one in path.parent.glob("*.tsv"))
            raise DataError(f"{path.name} is missing in {path.parent}: it says what each trial showed; {_listed(near)}")
        reader = csv.DictReader(open_text(path), delimiter="\t")
        absent = [name for name in (_INDEX, column) if name not in (reader.fieldnames or ())]
        if absent:
            raise DataError(f"{path} lacks column {absent[0]!r}; it has {', '.join(reader.fieldnames or ())}")
        rows = [(row[_INDEX], row[column]) for row in reader]
        if sorted(index for index, _ in rows) != sorted(map(str, range(len(rows)))):
            raise DataError(f"{path}: {_INDEX} must number the volumes 0 to {len(rows) - 1}, each once")
        return [name for _, name in sorted(rows, key=lambda row: int(row[0]))]

    def regions(self) -> dict[str, Place]:
        """Masks of regions by name, hyphens left out (the data set's own download writes FFA1, its bucket FFA-1).

        Raises
        ------
        DataError
            If two masks have the same name.
        """
        label = re.compile(re.escape(self.subject) + r"_space-T1w_(?:res-1pt8_)?label-([A-Za-z0-9-]+)_mask\.nii(?:\.gz)?")
        folder = self.root / self.regions_folder / self.subject
        masks: list[Place] = [*folder.rglob("*.nii*")]
        found = [(plain(match[1]), path) for path in sorted(masks, key=str) if (match := label.fullmatch(path.name))]
        twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
        if twice:
            both = [relative(path, folder) for name, path in found if name == twice[0]]
            raise DataError(f"region {twice[0]} is there more than once in {folder}: {', '.join(both)}; keep one of them")
        return dict(found)

    def missing_region(self, name: str) -> str:
        """What to say where a region is asked for that is not there."""
        folder = self.root / self.regions_folder / self.subject
        regions = self.regions()
        categories = sorted({path.parent.name for path in regions.values()})
        if regions:
            return f"no region {name!r} in {folder}; regions: {', '.join(sorted(regions))}; folders: {', '.join(categories)}"
        near = sorted(relative(path, folder) for path in folder.rglob("*.nii*"))
        wanted = f"{self.subject}_space-T1w_res-1pt8_label-NAME_mask.nii.gz"
        return f"no region {name!r}: wanted files CATEGORY/{wanted} in {folder}; {_listed(near)}"

    def _session_file(self, session: int, name: str) -> Place:
        return self.derivatives / f"ses-{session:02d}/func/{self.subject}_ses-{session:02d}_{name}"


def plain(name: str) -> str:
    """A region's name without hyphens."""
    return name.replace("-", "")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"found there: {', '.join(names[:_SHOWN])}{more}" if names else "nothing of the kind is there"
