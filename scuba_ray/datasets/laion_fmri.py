"""The `laion_fmri` layout: LAION-fMRI as it is published (BIDS derivatives), read where it lies.

    PATH/derivatives/glmsingle-tedana/sub-XX/ses-YY/func/
        sub-XX_ses-YY_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz    (X, Y, Z, trials)
        sub-XX_ses-YY_task-images_desc-SingletrialBetas_trials.tsv      beta_index: the volume, from 0; label: the image
    PATH/derivatives/glmsingle-tedana/sub-XX/
        sub-XX_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz        the mask `brain`: larger than 0
        sub-XX_task-images_space-T1w_desc-Noiseceiling4rep_statmap.nii.gz           noise ceilings (may be absent)
    PATH/derivatives/rois/sub-XX/CATEGORY/sub-XX_space-T1w_res-1pt8_label-NAME_mask.nii.gz
    PATH/derivatives/freesurfer/sub-XX/surf/{lh,rh}.{white,pial,sphere.reg}         to draw (may be absent)
    PATH/stimuli/task-images_stimuli.h5                                 images: a JPEG per row
    PATH/stimuli/task-images_metadata.csv                               image_name of each row
    PATH/stimuli/task-images_desc-captions.csv                          captions (may be absent)

These names are those of the release of 2026 as its own documentation and package give them; no file of the release itself could
be held against them. Where an earlier or later release differs, options name the files, and an error lists what is there.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.datasets.checks import TRIALS, Problems, data_folder
from scuba_ray.datasets.content import text_digest
from scuba_ray.datasets.geometry import fsaverage5
from scuba_ray.datasets.held_out import check_share, held_out
from scuba_ray.datasets.laion_folder import LaionFolder
from scuba_ray.datasets.laion_stimuli import EncodedPictures, captions_of, check_shown, read_split, rows_of_images
from scuba_ray.datasets.laion_voxels import UNITS, LaionVoxels
from scuba_ray.datasets.nsd_folder import ranges
from scuba_ray.datasets.places import below
from scuba_ray.datasets.subject_files import SubjectFiles, sampled_digest
from scuba_ray.datasets.volumes import MEMORY, Volumes, open_volumes
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Geometry, Grid

_MEBIBYTE = 1 << 20
_SOURCES = ("human", "ai")


class LaionFmriDataset(SubjectFiles):
    """One subject of LAION-fMRI. Opening reads headers, trial tables and maps; betas stay on disk, and a session (12 GB whole) is
    streamed once, volume after volume, while the mask's voxels are kept.

    Stimuli are called by their images' names, their uri is the row; `voxel_id` is the flat index into the volume, last axis
    fastest, and `vertex` one of fsaverage5.

    Parameters
    ----------
    subject : str
        What results call the subject.
    path : str
        The folder that holds derivatives and stimuli.
    laion_subject : str, optional
        The data set's own name, such as sub-01, where `subject` is another.
    mask : str
        Which voxels: `brain`, or an expression of regions (`FFA1`; hyphens make no difference), folders of regions (`face`) and
        mask files (from `path` unless absolute), joined by ` + `, ` - ` or ` & ` (`masks`).
    sessions : list of int, optional
        Sessions to use; none takes all that are on disk, first to last.
    split : str, optional
        One of the data set's own splits, a JSON file of its package (laion_fmri/splits/data/sub-01/tau.json), from `path` unless
        absolute: trials of images in neither part are left out. None holds out `test_share` of the images by a hash of the name
        and `seed`.
    test_share, seed : float, int
        See `split`.
    noise_ceiling : str, optional
        Which map: Noiseceiling4rep or Noiseceiling12rep; none takes repeats instead.
    ceiling_unit : str
        `percent` (as documented) or `fraction`.
    rois : list of str, optional
        Regions, or their folders, that name voxels; none takes all but the sectors of the whole visual cortex (laion...).
    captions : str, optional
        Whose captions stimuli get, where the file is there: `human` or `ai`; none leaves them out.
    betas, trials : str
        Names of a session's files after `sub-XX_ses-YY_`.
    label : str
        Column of the trials that names the image.
    regions_folder : str
        Folder of the regions below `path`.
    images_key : str
        Data set of the pictures in the HDF5 file.
    memory_mb : int
        Buffer of a session's stream, MiB.

    Raises
    ------
    ConfigError
        If `path` is no LAION-fMRI or an option is wrong.
    DataError
        If a file is missing or damaged, or files do not fit each other; the file is named.
    """

    _pictures: EncodedPictures

    def __init__(
        self,
        subject: str,
        path: str,
        *,
        laion_subject: str | None = None,
        mask: str = "laiongeneral",
        sessions: list[int] | None = None,
        split: str | None = None,
        test_share: float = 0.1,
        seed: int = 0,
        noise_ceiling: str | None = "Noiseceiling4rep",
        ceiling_unit: str = "percent",
        rois: list[str] | None = None,
        captions: str | None = "human",
        betas: str = "task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz",
        trials: str = "task-images_desc-SingletrialBetas_trials.tsv",
        label: str = "label",
        regions_folder: str = "derivatives/rois",
        images_key: str = "images",
        memory_mb: int = MEMORY // _MEBIBYTE,
    ) -> None:
        super().__init__(subject, path, locals())
        _check_options(self._options)
        self._memory = memory_mb * _MEBIBYTE
        self._folder = LaionFolder(data_folder(path), laion_subject or subject, betas, trials, regions_folder)
        self._numbers = self._folder.sessions(sessions)
        problems = Problems()
        self._shown = dict[int, list[str]]()
        for number in self._numbers:
            with problems.collected():
                self._shown[number] = self._folder.shown(number, label)
        self._headers = self._read_headers(problems)
        with problems.collected():
            self._pictures = EncodedPictures(str(self._folder.stimuli("stimuli.h5")), images_key)
            self._stimuli = self._make_stimuli()
        if self._headers:
            maps = LaionVoxels(self._folder, next(iter(self._headers.values())))
            with problems.collected():
                self._voxel_V = maps.chosen(mask)
                self._voxels = maps.table(self._voxel_V, rois, noise_ceiling, ceiling_unit)
                self._notes += maps.notes
        problems.tell()
        self._trials = self._make_trials()

    def fingerprint(self) -> str:
        """Of all tables, and of a sample of the bytes of betas and pictures; not of their location."""
        sampled = sampled_digest((path.name, path) for path in map(self._folder.betas, self._numbers))
        tables = [json.dumps(table.to_pydict()) for table in (self._stimuli, self._trials, self._voxels)]
        return text_digest("laion_fmri", *tables, sampled, self._pictures.fingerprint())

    def about(self) -> dict[str, Any]:
        """What was chosen and found, for a run's record."""
        split = self._options["split"]
        chosen = (
            {name: self._options[name] for name in ("test_share", "seed")}
            if split is None
            else {"split": below(self._folder.root, split).name}
        )
        return {
            "layout": "laion_fmri",
            "laion_subject": self._folder.subject,
            "mask": self._options["mask"],
            "sessions": ranges(self._numbers),
            **chosen,
            **self._counts(),
        }

    def read_session(self, session: int) -> np.ndarray:
        """Betas (T_s, V) of a session, float32, as they are stored (times the header's scale); `memory_mb` besides."""
        header = self._headers[session]
        betas_TV = header.pick(self._voxel_V, self._memory)
        betas_TV *= np.float32(header.slope)
        betas_TV += np.float32(header.inter)
        used = self._used()
        used_T = np.array([name in used for name in self._shown[session]])
        return betas_TV if used_T.all() else betas_TV[used_T]

    def geometry(self) -> Geometry | None:
        """fsaverage5 where voxels have vertices; None where the subject's surfaces are missing."""
        return fsaverage5() if self._voxels["vertex"].null_count < len(self._voxels) else None

    def grid(self) -> Grid | None:
        """The volume of the first session's betas."""
        first = next(iter(self._headers.values()))
        x, y, z = first.shape
        return Grid("T1w", (x, y, z), first.affine)

    def _read_headers(self, problems: Problems) -> dict[int, Volumes]:
        """Headers of the sessions that can be read, each held against the first of them and its table of trials."""
        headers = dict[int, Volumes]()
        for number in self._numbers:
            with problems.collected():
                header = open_volumes(self._folder.betas(number))
                self._check_header(number, header, next(iter(headers.values()), header))
                headers[number] = header
        return headers

    def _check_header(self, number: int, header: Volumes, first: Volumes) -> None:
        """Raise DataError unless a session is whole and fits the first one and its table of trials."""
        header.check_whole()
        if min(header.shape) < 2:
            raise DataError(f"{header.path} has shape {(*header.shape, header.count)}, wanted (X, Y, Z, trials)")
        if header.shape != first.shape or not np.allclose(header.affine, first.affine, atol=1e-3):
            raise DataError(
                f"{header.path} has shape {header.shape} or lies elsewhere than the first session, {first.path.name} "
                f"({first.shape}): is it another subject's?"
            )
        if number in self._shown and header.count != len(self._shown[number]):
            raise DataError(
                f"{header.path} has {header.count} trials, but its table of trials has {len(self._shown[number])} rows: one "
                "volume per trial is wanted"
            )

    def _used(self) -> set[str]:
        return set(self._stimuli["stimulus_id"].to_pylist())

    def _make_stimuli(self) -> pa.Table:
        table = self._folder.stimuli("metadata.csv")
        rows = rows_of_images(table, self._pictures.count)
        names = sorted({name for shown in self._shown.values() for name in shown})
        check_shown(names, rows, table)
        train, test = self._parts(names)
        used = [name for name in names if name in train | test]
        if len(used) < len(names):
            self._notes.append(
                f"{len(names) - len(used)} of {len(names)} images are in neither part of the split and are left out"
            )
        for kind, part in (("training", train), ("test", test)):
            if not part & set(used):
                raise DataError(f"sessions {ranges(self._numbers)} of {self._folder.subject} show no {kind} image of this split")
        said = self._captions()
        columns = {
            "stimulus_id": used,
            "uri": [str(rows[name]) for name in used],
            "split": ["test" if name in test else "train" for name in used],
            "caption": pa.array([said.get(name) for name in used], pa.string()),
        }
        return pa.table(columns)

    def _parts(self, names: list[str]) -> tuple[set[str], set[str]]:
        if self._options["split"] is not None:
            return read_split(below(self._folder.root, self._options["split"]))
        test = held_out(names, self._options["test_share"], self._options["seed"])
        return set(names) - test, test

    def _captions(self) -> dict[str, str]:
        source, path = self._options["captions"], self._folder.stimuli("desc-captions.csv")
        if source is None:
            return {}
        if not path.is_file():
            self._notes.append(f"no captions of stimuli: {path.name} is missing in {path.parent}")
            return {}
        return captions_of(path, source)

    def _make_trials(self) -> pa.Table:
        used = self._used()
        shown = [(number, name) for number in self._numbers for name in self._shown[number] if name in used]
        session = np.array([number for number, _ in shown], np.int32)
        return pa.table([np.arange(len(shown)), [name for _, name in shown], session], schema=TRIALS)


def _check_options(options: dict[str, Any]) -> None:
    check_share(options["test_share"])
    if options["ceiling_unit"] not in UNITS:
        raise ConfigError(f"laion_fmri has no ceiling_unit {options['ceiling_unit']!r}; known: {', '.join(UNITS)}")
    if options["captions"] not in {None, *_SOURCES}:
        raise ConfigError(f"laion_fmri has no captions of {options['captions']!r}; known: {', '.join(_SOURCES)}")
    if options["memory_mb"] < 1:
        raise ConfigError(f"memory_mb must be 1 or more, got {options['memory_mb']}")
    if options["sessions"] is not None and not options["sessions"]:
        raise ConfigError("sessions must name at least one session; leave it out to use all that are on disk")
