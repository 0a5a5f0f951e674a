"""A small data set in exactly NSD's layout: names, types, axis orders, scale factors, counting from 1, label files and tables.

Sizes alone are scaled down: a volume of 10 x 12 x 9, few sessions, pictures of any size. What is planted in the files is
returned, so that a test can hold what was read against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

from scuba_ray.datasets.fsaverage import VERTICES
from scuba_ray.datasets.geometry import HEMISPHERES

SHAPE = (10, 12, 9)
BETAS = "betas_fithrf_GLMdenoise_RR"
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
AFFINE[:3, 3] = [-1.8 * (size - 1) / 2 for size in SHAPE]
TABLES = {
    "floc-faces": ("OFA", "FFA-1", "FFA-2"),
    "floc-bodies": ("EBA", "FBA-1"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1"),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "HCP_MMP1": ("FFC", "VMV1", "PH", "TE2p", "VVC", "LO2", "V1"),
    "nsdgeneral": ("nsdgeneral",),
    "food": ("food",),
}
CONTRASTS = {"faces": "floc-faces", "bodies": "floc-bodies", "places": "floc-places", "word": "floc-words"}
REGIONS = ("faces", "bodies", "places", "words", "food", "objects")
SUBJECTS = 8
EARLY = 14
"""Voxels of V1 to hV4 beside those with responses."""


@dataclass(frozen=True)
class Planted:
    """What the files hold. Voxels and vertices from 0."""

    root: Path
    responses_TV: np.ndarray
    stimulus_T: np.ndarray
    session_T: np.ndarray
    """From 1."""
    image_S: np.ndarray
    """Of the 73,000, from 0."""
    ijk_V3: np.ndarray
    region_V: np.ndarray
    hemi_V: np.ndarray
    ncsnr_V: np.ndarray
    vertex_V: np.ndarray

    @property
    def betas(self) -> Path:
        return self.root / "nsddata_betas/ppdata/subj01/func1pt8mm" / BETAS

    @property
    def roi(self) -> Path:
        return self.root / "nsddata/ppdata/subj01/func1pt8mm/roi"

    @property
    def design(self) -> Path:
        return self.root / "nsddata/experiments/nsd/nsd_expdesign.mat"

    @property
    def stimuli(self) -> Path:
        return self.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"

    def order(self) -> np.ndarray:
        """The voxels in the order of the flat index, last axis fastest."""
        return np.argsort(np.ravel_multi_index(tuple(self.ijk_V3.T), SHAPE))


def write_nsd(
    root: Path,
    responses_TV: np.ndarray,
    stimulus_T: np.ndarray,
    session_T: np.ndarray,
    pictures_S: np.ndarray,
    *,
    tests: int,
    region_V: Sequence[str],
    hemi_V: Sequence[str],
    vertex_V: np.ndarray | None = None,
    formats: Sequence[str] = ("nifti",),
    ascending: bool = False,
) -> Planted:
    """Write subject 1 of eight: the first `tests` stimuli are the shared ones. Responses are in percent signal change.

    `ascending` numbers of images keep the stimuli's order, on which folds depend; NSD's own are in no order.
    """
    regions, hemis = np.array(region_V), np.array([HEMISPHERES.index(hemi) for hemi in hemi_V])
    image_S = write_design(root, stimulus_T, session_T, tests, ascending)
    write_stimuli(root, pictures_S, image_S)
    voxels = len(regions)
    ijk_N3 = place_voxels(np.concatenate([hemis, np.arange(EARLY) % 2]))
    ncsnr_V = np.random.default_rng(5).uniform(0.2, 1.5, voxels).astype(np.float32)
    vertices = np.arange(voxels) * 3 if vertex_V is None else vertex_V
    planted = Planted(root, responses_TV, stimulus_T, session_T, image_S, ijk_N3[:voxels], regions, hemis, ncsnr_V, vertices)
    volume = np.zeros((*SHAPE, 1), np.float32)
    for session in np.unique(session_T):
        rows = responses_TV[session_T == session]
        volume = np.zeros((*SHAPE, len(rows)), np.float32)
        volume[tuple(planted.ijk_V3.T)] = rows.T
        write_betas(planted.betas, int(session), volume, formats)
    write_regions(planted, ijk_N3[voxels:])
    write_transforms(planted)
    return planted


def write_design(root: Path, stimulus_T: np.ndarray, session_T: np.ndarray, tests: int, ascending: bool) -> np.ndarray:
    """The design and the list of images; returns the numbers (from 0) of subject 1's stimuli among all images."""
    images, own = int(stimulus_T.max()) + 1, int(stimulus_T.max()) + 1 - tests
    numbers = np.random.default_rng(1).permutation(tests + SUBJECTS * own) + 1
    if ascending:
        numbers[:images] = np.sort(numbers[:images])
    shared, rest = np.sort(numbers[:tests]), numbers[tests:].reshape(SUBJECTS, own)
    subjectim = np.concatenate([np.tile(shared, (SUBJECTS, 1)), rest], axis=1)
    trials_N = np.bincount(session_T)[1:]
    stimpattern = np.zeros((len(trials_N), 12, trials_N.max() // 12 + 2), np.uint8)
    for session, trials in enumerate(trials_N):
        for trial in range(trials):
            stimpattern[session, trial % 12, trial // 12] = 1
    folder = root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "basiccnt": np.zeros((3, len(trials_N))),
        "masterordering": (stimulus_T + 1).astype(np.uint16)[None],
        "sharedix": shared.astype(np.uint32)[None],
        "stimpattern": stimpattern,
        "subjectim": subjectim.astype(np.float64),
    }
    scipy.io.savemat(folder / "nsd_expdesign.mat", variables)
    lines = [",cocoId,cocoSplit,cropBox,loss,nsdId,flagged,BOLD5000,shared1000"]
    for image in range(len(numbers)):
        lines.append(f'{image},{image + 500},train2017,"(0, 0, 0.1, 0.1)",0.0,{image},False,False,{image + 1 in shared}')
    (folder / "nsd_stim_info_merged.csv").write_text("\n".join(lines) + "\n")
    assert subjectim.shape == (SUBJECTS, images)
    return subjectim[0].astype(np.int64) - 1


def write_stimuli(root: Path, pictures_S: np.ndarray, image_S: np.ndarray) -> None:
    folder = root / "nsddata_stimuli/stimuli/nsd"
    folder.mkdir(parents=True, exist_ok=True)
    count, own = len(image_S), len(pictures_S)
    assert count == own
    with h5py.File(folder / "nsd_stimuli.hdf5", "w") as file:
        total = int(image_S.max()) + 20
        brick = file.create_dataset("imgBrick", (total, *pictures_S.shape[1:]), np.uint8, chunks=(1, *pictures_S.shape[1:]))
        for picture, image in zip(pictures_S, image_S, strict=True):
            brick[image] = picture


def place_voxels(hemi_N: np.ndarray) -> np.ndarray:
    """Different places, hemisphere 0 in the half of small x, in no order; (N, 3)."""
    ijk_N3 = np.zeros((len(hemi_N), 3), np.int64)
    half = SHAPE[0] // 2
    for hemi in range(2):
        mine = np.flatnonzero(hemi_N == hemi)
        places = np.random.default_rng(hemi).permutation(half * SHAPE[1] * SHAPE[2])[: len(mine)]
        ijk_N3[mine] = np.stack(np.unravel_index(places, (half, *SHAPE[1:])), axis=1)
        ijk_N3[mine, 0] += hemi * half
    return ijk_N3


def write_betas(folder: Path, session: int, volume_XYZT: np.ndarray, formats: Sequence[str]) -> None:
    """int16, 300 times the percent signal change: NIfTI (X, Y, Z, T) and HDF5 (T, Z, Y, X) with a voxel's trials in a chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.round(volume_XYZT * 300).astype(np.int16)
    if "nifti" in formats:
        nibabel.save(nibabel.Nifti1Image(stored, AFFINE), folder / f"betas_session{session:02d}.nii.gz")
    if "hdf5" in formats:
        with h5py.File(folder / f"betas_session{session:02d}.hdf5", "w") as file:
            file.create_dataset("betas", data=stored.T, chunks=(stored.shape[-1], 1, 1, 1))


def write_map(path: Path, values_V: np.ndarray, ijk_V3: np.ndarray, outside: float = 0) -> None:
    volume = np.full(SHAPE, outside, values_V.dtype)
    volume[tuple(ijk_V3.T)] = values_V
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, AFFINE), path)


def labels_of(collection: str, region_V: np.ndarray) -> np.ndarray:
    """Labels of the voxels with responses; those of V1 to hV4 come after them."""
    names, early = TABLES[collection], np.arange(EARLY)
    if collection == "HCP_MMP1":
        return np.concatenate([[REGIONS.index(region) + 1 for region in region_V], np.full(EARLY, 7)]).astype(np.float32)
    if collection == "nsdgeneral":
        return np.ones(len(region_V) + EARLY, np.float32)
    if collection == "prf-visualrois":
        return np.concatenate([np.zeros(len(region_V)), early // 2 + 1]).astype(np.float32)
    mine = region_V == collection.removeprefix("floc-")
    return np.concatenate([np.where(mine, np.cumsum(mine) % len(names) + 1, 0), np.zeros(EARLY)]).astype(np.float32)


def t_of(region_V: np.ndarray, contrast: str) -> np.ndarray:
    """8 in a category's own voxels, but 1 in every fifth; 0.5 elsewhere."""
    mine = region_V == CONTRASTS[contrast].removeprefix("floc-")
    return np.where(mine, np.where(np.cumsum(mine) % 5 == 0, 1.0, 8.0), 0.5).astype(np.float32)


def write_regions(planted: Planted, early_N3: np.ndarray) -> None:
    """Label files of both hemispheres and of each, -1 outside of the cortex; t maps; ncsnr; colour tables."""
    ijk_N3 = np.concatenate([planted.ijk_V3, early_N3])
    hemi_N = np.concatenate([planted.hemi_V, np.arange(EARLY) % 2])
    tables = planted.root / "nsddata/freesurfer/subj01/label"
    tables.mkdir(parents=True, exist_ok=True)
    for collection, names in TABLES.items():
        label_N = labels_of(collection, planted.region_V)
        write_map(planted.roi / f"{collection}.nii.gz", label_N, ijk_N3, -1)
        for number, hemi in enumerate(HEMISPHERES):
            mine = hemi_N == number
            write_map(planted.roi / f"{hemi}.{collection}.nii.gz", label_N[mine], ijk_N3[mine], -1)
        lines = ["0 Unknown", *(f"{number} {name}" for number, name in enumerate(names, 1))]
        (tables / f"{collection}.mgz.ctab").write_text("\n".join(lines) + "\n")
    for contrast in CONTRASTS:
        write_map(planted.roi.parent / f"floc_{contrast}tval.nii.gz", t_of(planted.region_V, contrast), planted.ijk_V3)
    write_map(planted.betas / "ncsnr.nii.gz", planted.ncsnr_V, planted.ijk_V3)


def write_mgz(path: Path, values: np.ndarray) -> None:
    """Values per vertex, (vertices,) or (vertices, frames), as FreeSurfer keeps them: float32 (vertices, 1, 1[, frames])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(values), 1, 1, *values.shape[1:])
    nibabel.save(nibabel.MGHImage(values.reshape(shape).astype(np.float32), np.eye(4)), path)


def write_transforms(planted: Planted) -> None:
    """A subject's own surfaces with a vertex in the middle of each voxel; fsaverage5 of fsaverage has voxels."""
    folder = planted.root / "nsddata/ppdata/subj01/transforms"
    for number, hemi in enumerate(HEMISPHERES):
        mine = np.flatnonzero(planted.hemi_V == number)
        # the last own vertex lies outside of the volume, and so does every vertex of fsaverage that belongs to no voxel
        place = np.concatenate([planted.ijk_V3[mine] + 1, np.full((1, 3), 9999)])
        own_F = np.full(VERTICES, len(mine) + 1)
        own_F[planted.vertex_V[mine]] = np.arange(len(mine)) + 1
        write_mgz(folder / f"{hemi}.func1pt8-to-layerB2.mgz", place)
        write_mgz(folder / f"{hemi}.white-to-fsaverage.mgz", own_F)


def write_surface(planted: Planted, sessions: Sequence[int], vertices: int = 200) -> None:
    """The same responses on an fsaverage of few vertices: voxel n of a hemisphere is vertex 2 n; regions on the subject's own."""
    betas = planted.root / "nsddata_betas/ppdata/subj01/fsaverage" / BETAS
    freesurfer = planted.root / "nsddata/freesurfer"
    for number, hemi in enumerate(HEMISPHERES):
        mine = np.flatnonzero(planted.hemi_V == number)
        places = np.arange(len(mine)) * 2
        for session in sessions:
            rows = planted.responses_TV[planted.session_T == session][:, mine]
            values = np.zeros((vertices, 1, 1, len(rows)), np.float32)
            values[places, 0, 0] = rows.T
            betas.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.MGHImage(values, np.eye(4)), betas / f"{hemi}.betas_session{session:02d}.mgh")
        ncsnr = np.full(vertices, np.nan, np.float32)
        ncsnr[places] = planted.ncsnr_V[mine]
        write_mgz(betas / f"{hemi}.ncsnr.mgh", ncsnr)
        own_F = np.full(vertices, len(mine) + 1)
        own_F[places] = np.arange(len(mine)) + 1
        write_mgz(planted.root / "nsddata/ppdata/subj01/transforms" / f"{hemi}.white-to-fsaverage.mgz", own_F)
        for collection in TABLES:
            label_N = np.append(labels_of(collection, planted.region_V)[mine], 0)
            if collection == "HCP_MMP1":  # an atlas lies on fsaverage itself
                write_mgz(freesurfer / "fsaverage/label" / f"{hemi}.{collection}.mgz", label_N[own_F - 1])
            else:
                write_mgz(freesurfer / "subj01/label" / f"{hemi}.{collection}.mgz", label_N)
        for contrast in CONTRASTS:
            t_V = np.append(t_of(planted.region_V, contrast)[mine], 0)
            write_mgz(freesurfer / "subj01/label" / f"{hemi}.floc{contrast}tval.mgz", t_V)


def small_nsd(root: Path, formats: Sequence[str] = ("nifti",)) -> Planted:
    """48 voxels, 40 images three times, 4 sessions of 30 trials; the first shared image is shown in the last session only."""
    rng = np.random.default_rng(0)
    stimulus_T = np.concatenate([rng.permutation(np.arange(3, 120)) % 39 + 1, [0, 0, 0]])
    session_T = np.arange(120) // 30 + 1
    responses_TV = rng.normal(0, 1.5, (120, 48)) + 3 * rng.normal(size=(5, 48))[session_T]
    pictures_S = rng.integers(0, 256, (40, 8, 6, 3), dtype=np.uint8)
    regions, hemis = [REGIONS[voxel % 6] for voxel in range(48)], [HEMISPHERES[voxel // 6 % 2] for voxel in range(48)]
    return write_nsd(
        root, responses_TV, stimulus_T, session_T, pictures_S, tests=8, region_V=regions, hemi_V=hemis, formats=formats
    )


DONE = [4, 4, 3, 3, 4, 3, 4, 3]
"""Sessions that the eight subjects of `small_nsd` did."""


def nsd_of_arrays(arrays: Path, root: Path, formats: Sequence[str] = ("nifti",)) -> Planted:
    """A subject of the `arrays` layout (a phantom) as NSD has subjects: its test stimuli become the shared images."""
    stimuli, trials, voxels = (pq.read_table(arrays / f"{name}.parquet").to_pydict() for name in ("stimuli", "trials", "voxels"))
    ids = {name: index for index, name in enumerate(stimuli["stimulus_id"])}
    pictures_S = np.stack([np.asarray(Image.open(arrays / "images" / uri).convert("RGB")) for uri in stimuli["uri"]])
    return write_nsd(
        root,
        np.load(arrays / "responses.npy"),
        np.array([ids[name] for name in trials["stimulus_id"]]),
        np.array(trials["session"]) + 1,
        pictures_S,
        tests=stimuli["split"].count("test"),
        region_V=[names[0] for names in voxels["rois"]],
        hemi_V=voxels["hemi"],
        vertex_V=np.array(voxels["vertex"]),
        formats=formats,
        ascending=True,
    )
