"""The `nsd` layout: the Natural Scenes Dataset as it is published, read where it lies.

    PATH/nsddata/experiments/nsd/nsd_expdesign.mat                             who saw what when
    PATH/nsddata/experiments/nsd/nsd_stim_info_merged.csv                      COCO ids (may be absent)
    PATH/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5                          imgBrick: the pictures
    PATH/nsddata_betas/ppdata/subjXX/SPACE/BETAS/betas_sessionNN.nii.gz        or .hdf5; [lh.|rh.]betas_sessionNN.mgh on fsaverage
    PATH/nsddata_betas/ppdata/subjXX/SPACE/BETAS/ncsnr.nii.gz                  (may be absent); {hemi}.ncsnr.mgh
    PATH/nsddata/ppdata/subjXX/func1pt8mm/roi/[lh.|rh.]NAME.nii.gz             regions
    PATH/nsddata/ppdata/subjXX/func1pt8mm/floc_NAMEtval.nii.gz                 localiser maps (may be absent)
    PATH/nsddata/freesurfer/{subjXX,fsaverage}/label/NAME.mgz.ctab             names of regions; labels on surfaces
    PATH/nsddata/ppdata/subjXX/transforms, nsddata/freesurfer/fsaverage/surf   to draw (may be absent)

What may be absent is told by `notes()`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa

from scuba_ray.datasets.array_pictures import Hdf5Pictures
from scuba_ray.datasets.checks import TRIALS, VOXELS, Problems, data_folder
from scuba_ray.datasets.content import file_digest, text_digest
from scuba_ray.datasets.geometry import fsaverage5
from scuba_ray.datasets.nsd_betas import STORED, Header, check_session, read_betas, read_header
from scuba_ray.datasets.nsd_design import COMMON, TESTS, all_done, read_design
from scuba_ray.datasets.nsd_folder import SPACES, SURFACE, NsdFolder, ranges
from scuba_ray.datasets.nsd_fsaverage import SurfaceSpace
from scuba_ray.datasets.nsd_masks import HIGHER_VISUAL, Masks
from scuba_ray.datasets.nsd_space import Space
from scuba_ray.datasets.nsd_stimuli import BRICK, stimuli_table, stimulus_id
from scuba_ray.datasets.nsd_surface import fsaverage
from scuba_ray.datasets.nsd_volume import VolumeSpace
from scuba_ray.datasets.places import below, relative
from scuba_ray.datasets.subject_files import SubjectFiles, sampled_digest
from scuba_ray.datasets.volumes import MEMORY
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import Geometry, Grid

_FORMATS = ("auto", "nifti", "hdf5")
_MEBIBYTE = 1 << 20


class NsdDataset(SubjectFiles):
    """One subject of NSD. Opening reads headers, the design and the maps that the mask and the regions need; betas stay on disk.

    Stimuli are called `nsd-00013` and have the uri 13, from 0, and COCO's id (coco_id, null where unknown). `voxel_id` is
    the flat index into the volume, last axis fastest; on fsaverage the vertex, the right ones after the left.

    Parameters
    ----------
    subject : str
        What results call the subject.
    path : str
        The folder that holds nsddata, nsddata_betas and nsddata_stimuli.
    nsd_subject : str, optional
        NSD's own name, subj01 to subj08, where `subject` is another.
    space : str
        func1pt8mm, func1mm or fsaverage.
    betas : str
        Which preparation of the betas: the name of their folder.
    format : str
        Of volumes: `hdf5` reads only what the mask needs, `nifti` streams whole files; `auto` takes HDF5 where it is there.
    mask : str
        Which voxels: `higher-visual`, `nsdgeneral`, or an expression of regions and mask files (`nsd_masks`). Paths that are
        not absolute begin at `path`.
    test : str
        `common-to-all`: images that all eight subjects saw in the sessions they did (the other shared images are for training);
        `shared1000`: all images meant to be shared.
    sessions : list of int, optional
        Sessions to use; none takes all that are on disk, which must be 1 to some last one.
    sessions_done : list of int, optional
        How many sessions each subject did, for `common-to-all`; none takes NSD's 40, 40, 32, 30, 40, 32, 40, 30.
    rois : list of str, optional
        Collections of regions that name voxels; none takes the localiser's, food and V1 to hV4, those that are there.
    floc_threshold : float or None
        t above which a voxel counts as in a localiser's category; none takes the drawn regions alone.
    captions : str, optional
        Folder of COCO's captions_*.json (from `path` if not absolute); stimuli get captions by their COCO ids.
    memory_mb : int
        Buffer of a session's stream, MiB.

    Raises
    ------
    ConfigError
        If `path` is no NSD or an option is wrong.
    DataError
        If a file is missing or damaged, or files do not fit each other; the file is named.
    """

    _pictures: Hdf5Pictures

    def __init__(
        self,
        subject: str,
        path: str,
        *,
        nsd_subject: str | None = None,
        space: str = "func1pt8mm",
        betas: str = "betas_fithrf_GLMdenoise_RR",
        format: str = "auto",
        mask: str = HIGHER_VISUAL,
        test: str = COMMON,
        sessions: list[int] | None = None,
        sessions_done: list[int] | None = None,
        rois: list[str] | None = None,
        floc_threshold: float | None = 2.0,
        captions: str | None = None,
        memory_mb: int = MEMORY // _MEBIBYTE,
    ) -> None:
        super().__init__(subject, path, locals())
        _check_options(self._options)
        self._memory = memory_mb * _MEBIBYTE
        self._nsd = NsdFolder(data_folder(path), _number(nsd_subject or subject), space, betas)
        self._design = read_design(self._nsd.design)
        self._done = all_done(self._design, sessions_done)
        self._sessions = self._nsd.sessions(sessions, self._design.sessions, format)
        self._space = self._open_space()
        masks = Masks(self._nsd, self._space, floc_threshold)
        self._index_V = np.flatnonzero(masks.mask(mask))
        self._voxels = self._make_voxels(masks.regions(rois, self._index_V))
        self._trials = self._make_trials()
        self._pictures = Hdf5Pictures(str(self._nsd.stimuli), BRICK)
        self._stimuli = self._make_stimuli()
        self._notes += self._space.notes

    def fingerprint(self) -> str:
        """Of every file read and of what the options chose; not of the location. Of betas and pictures, a sample of the bytes."""
        names = ("space", "betas", "mask", "test", "sessions_done", "rois", "floc_threshold")
        chosen = json.dumps({name: self._options[name] for name in names} | {"sessions": self._numbers}, sort_keys=True)
        maps = sorted((relative(path, self._nsd.root), path) for path in (self._nsd.design, *self._space.files.values()))
        digests = [f"{name}\n{file_digest(path)}" for name, path in maps]
        sampled = sampled_digest((path.name, path) for files in self._sessions for path in files.paths)
        said = text_digest(*(caption or "" for caption in self._stimuli["caption"].to_pylist()))
        return text_digest("nsd", chosen, *digests, sampled, said, self._pictures.fingerprint())

    def about(self) -> dict[str, Any]:
        """What was chosen and found, for a run's record."""
        return {
            "layout": "nsd",
            "nsd_subject": self._nsd.name,
            "space": self._nsd.space,
            "betas": self._nsd.betas_name,
            "mask": self._options["mask"],
            "sessions": ranges(self._numbers),
            "test": self._options["test"],
            **self._counts(),
        }

    def read_session(self, session: int) -> np.ndarray:
        """Betas (T_s, V) of a session in percent signal change, float32; `memory_mb` besides."""
        return read_betas(self._sessions[self._numbers.index(session)], self._index_V, self._memory)

    def geometry(self) -> Geometry | None:
        """fsaverage5 for volumes whose voxels have vertices, NSD's fsaverage for surfaces; None where the files are missing."""
        if self._nsd.space == SURFACE:
            return fsaverage(self._nsd)
        return fsaverage5() if self._voxels["vertex"].null_count < len(self._voxels) else None

    def grid(self) -> Grid | None:
        """The functional volume, by the affine of the betas or else the maps; None on fsaverage."""
        return self._space.grid() if isinstance(self._space, VolumeSpace) else None

    @property
    def _numbers(self) -> list[int]:
        return [files.session for files in self._sessions]

    def _open_space(self) -> Space:
        """Check the headers of all sessions against the first and the design; what voxels are comes from the first."""
        problems, headers = Problems(), list[Header]()
        for files in self._sessions:
            with problems.collected():
                headers.append(read_header(files))
                trials = int(self._design.trials_N[files.session - 1])
                check_session(self._nsd, files, headers[-1], headers[0].shape, trials)
        problems.tell()
        first, planned = headers[0], self._done[self._nsd.subject - 1]
        if self._options["sessions"] is None and len(headers) < planned:
            self._notes.append(f"sessions {ranges(self._numbers)} of the {planned} that {self._nsd.name} did are on disk")
        odd = {(header.stored, header.factor) for header in headers if self._nsd.space != SURFACE and header.factor != 1 / STORED}
        for stored, factor in sorted(odd):
            how = "percent signal change" if factor == 1 else f"multiplied by the header's scale, {factor:g}"
            self._notes.append(f"betas stored as {stored} are taken as {how}, not divided by {STORED}")
        if self._nsd.space == SURFACE:
            return SurfaceSpace(self._nsd, first.shape[0])
        return VolumeSpace(self._nsd, first.shape, self._sessions[0].paths[0], first.affine)

    def _make_voxels(self, regions: list[list[str]]) -> pa.Table:
        ncsnr_N = self._space.ncsnr()
        if ncsnr_N is None:
            self._notes.append(f"no ncsnr in {self._nsd.betas}: noise ceilings come from repeats")
            ncsnr = pa.nulls(len(self._index_V), pa.float32())
        else:
            ncsnr_V = ncsnr_N[self._index_V]
            ncsnr = pa.array(ncsnr_V, mask=~np.isfinite(ncsnr_V))
        columns = {"voxel_id": pa.array(self._index_V, pa.int64()), **self._space.places(self._index_V), "ncsnr": ncsnr}
        columns["rois"] = pa.array(regions, pa.list_(pa.string()))
        return pa.table([columns[name] for name in VOXELS.names], schema=VOXELS)

    def _shown(self) -> list[np.ndarray]:
        """Images of each session's trials, from 0."""
        return [self._design.images_of(self._nsd.subject, session) for session in self._numbers]

    def _make_trials(self) -> pa.Table:
        shown = self._shown()
        session_T = np.repeat(self._numbers, [len(images) for images in shown]).astype(np.int32)
        ids = [stimulus_id(image) for image in np.concatenate(shown)]
        return pa.table([np.arange(len(ids)), ids, session_T], schema=TRIALS)

    def _make_stimuli(self) -> pa.Table:
        seen = np.unique(np.concatenate(self._shown())).tolist()
        if seen[-1] >= self._pictures.count:
            raise DataError(
                f"{self._nsd.stimuli} has {self._pictures.count} pictures, but {self._nsd.name} saw image {seen[-1]} (from 0): "
                "is the file whole?"
            )
        given = self._options["captions"]
        captions = None if given is None else below(self._nsd.root, given)
        tests = self._design.tests(self._options["test"], self._done)
        stimuli, note = stimuli_table(seen, tests, self._nsd.image_list, captions)
        self._notes += note
        for wanted in ("test", "train"):
            if wanted not in stimuli["split"].to_pylist():
                raise DataError(
                    f"sessions {ranges(self._numbers)} of {self._nsd.name} show no {wanted} image (test: {self._options['test']})"
                )
        return stimuli


def _number(name: str) -> int:
    match = re.fullmatch(r"subj0([1-8])", name)
    if not match:
        raise ConfigError(f"NSD's subjects are subj01 to subj08, got {name!r}; another name needs the option nsd_subject: subj0N")
    return int(match[1])


def _check_options(options: dict[str, Any]) -> None:
    for name, known in (("space", SPACES), ("format", _FORMATS), ("test", TESTS)):
        if options[name] not in known:
            raise ConfigError(f"nsd has no {name} {options[name]!r}; known: {', '.join(known)}")
    if options["memory_mb"] < 1:
        raise ConfigError(f"memory_mb must be 1 or more, got {options['memory_mb']}")
    if options["sessions"] is not None and not options["sessions"]:
        raise ConfigError("sessions must name at least one session; leave it out to use all that are on disk")
