"""A small subject in exactly LAION-fMRI's layout: names, types, axis orders, tables and units as its documentation gives them.

Sizes alone are scaled down: a volume of 11 x 13 x 9, few sessions, small pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pyarrow.parquet as pq
from nibabel.freesurfer.io import write_geometry

from scuba_ray.datasets.geometry import HEMISPHERES, surface

SHAPE = (11, 13, 9)
AFFINE = np.array([[-1.8, 0, 0, 9.7], [0, 1.8, 0, -11.2], [0, 0, 1.8, -6.5], [0, 0, 0, 1]])
"""The first axis runs from right to left, as the scanner's does."""
CENTRE = np.array([0.5, -1.0, 2.0])
REGIONS = {"faces": ("face", "FFA-1"), "bodies": ("body", "EBA"), "places": ("place", "PPA"), "words": ("character", "VWFA-1")}
"""Folder and name of a phantom's regions; all others are in the laion sectors alone."""


@dataclass(frozen=True)
class Planted:
    """What the files hold. Voxels in the order of the flat index, last axis fastest."""

    root: Path
    responses_TV: np.ndarray
    names_T: np.ndarray
    session_T: np.ndarray
    pictures: dict[str, bytes]
    ijk_V3: np.ndarray
    region_V: np.ndarray
    ceiling_V: np.ndarray
    """Percent, for averages of four trials."""
    order_V: np.ndarray
    """Which of the given voxels each one is."""

    @property
    def derivatives(self) -> Path:
        return self.root / "derivatives/glmsingle-tedana/sub-01"

    def session(self, number: int, name: str) -> Path:
        return self.derivatives / f"ses-{number:02d}/func/sub-01_ses-{number:02d}_task-images_{name}"

    def betas(self, number: int) -> Path:
        return self.session(number, "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz")

    def trials(self, number: int) -> Path:
        return self.session(number, "desc-SingletrialBetas_trials.tsv")

    def region(self, category: str, name: str) -> Path:
        return self.root / f"derivatives/rois/sub-01/{category}/sub-01_space-T1w_res-1pt8_label-{name}_mask.nii.gz"

    def stimuli(self, name: str) -> Path:
        return self.root / f"stimuli/task-images_{name}"

    @property
    def ceiling(self) -> Path:
        return self.derivatives / "sub-01_task-images_space-T1w_desc-Noiseceiling4rep_statmap.nii.gz"


def write_laion(
    root: Path,
    responses_TV: np.ndarray,
    *,
    names_T: np.ndarray,
    session_T: np.ndarray,
    pictures: dict[str, bytes],
    region_V: Sequence[str],
) -> Planted:
    """Write subject 1. Sessions count from 1; pictures are the bytes of picture files by name."""
    rng = np.random.default_rng(4)
    flat = rng.permutation(int(np.prod(SHAPE)))[: len(region_V)]
    order_V = np.argsort(flat)
    ijk_V3 = np.stack(np.unravel_index(flat[order_V], SHAPE), axis=1)
    ceiling_V = rng.uniform(2, 90, len(region_V)).astype(np.float32)
    planted = Planted(
        root,
        responses_TV[:, order_V].astype(np.float32),
        names_T,
        session_T,
        pictures,
        ijk_V3,
        np.array(region_V)[order_V],
        ceiling_V,
        order_V,
    )
    for number in np.unique(session_T):
        write_session(planted, int(number))
    brain = np.zeros(SHAPE, np.float32)
    brain[2:-2] = 0.3
    brain[tuple(ijk_V3.T)] = 0.5
    save(planted.derivatives / "sub-01_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz", brain)
    ceiling = np.zeros(SHAPE, np.float32)
    ceiling[tuple(ijk_V3.T)] = ceiling_V
    save(planted.ceiling, ceiling)
    write_regions(planted)
    write_stimuli(planted)
    return planted


def save(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def write_session(planted: Planted, number: int) -> None:
    """float32 betas, NaN outside of the brain; rows of the table in another order than the volumes, as nothing promises."""
    rows = np.flatnonzero(planted.session_T == number)
    volume = np.full((*SHAPE, len(rows)), np.nan, np.float32)
    volume[tuple(planted.ijk_V3.T)] = planted.responses_TV[rows].T
    save(planted.betas(number), volume)
    lines = [
        f"ses-{number:02d}\trun-{index * 12 // len(rows) + 1:02d}\t{index}\t{planted.names_T[row]}"
        for index, row in enumerate(rows)
    ]
    planted.trials(number).write_text("\n".join(["session\trun\tbeta_index\tlabel", *lines[::-1]]) + "\n")


def write_regions(planted: Planted) -> None:
    def mask(inside_V: np.ndarray) -> np.ndarray:
        volume = np.zeros(SHAPE, np.uint8)
        volume[tuple(planted.ijk_V3[inside_V].T)] = 1
        return volume

    for region, (category, name) in REGIONS.items():
        save(planted.region(category, name), mask(planted.region_V == region))
    save(planted.region("selectivity", "laion-general"), mask(np.ones(len(planted.region_V), bool)))
    for name in ("V1v", "EVC", "hV4"):
        save(planted.region("retinotopy", name), mask((planted.region_V == "early") & (name != "hV4")))


def write_stimuli(planted: Planted) -> None:
    """Rows in an order of their own, among them images that this subject never saw."""
    names = [*planted.pictures, "unique_LAION_someone_elses.jpg"]
    names = [names[index] for index in np.random.default_rng(3).permutation(len(names))]
    planted.stimuli("stimuli.h5").parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(planted.stimuli("stimuli.h5"), "w") as file:
        rows = file.create_dataset("images", (len(names),), dtype=h5py.vlen_dtype(np.uint8))
        for row, name in enumerate(names):
            rows[row] = np.frombuffer(planted.pictures.get(name, b"no picture"), np.uint8)
    lines = ["image_name,dataset,participant,unique_or_shared,n_reps", *(f"{name},LAION,sub-01,unique,4rep" for name in names)]
    planted.stimuli("metadata.csv").write_text("\n".join(lines) + "\n")
    lines = ["image_name,caption_idx,source,caption,origin_collection,participant_id,ai_model"]
    for name in names:
        lines += [
            f'{name},2,human,"second, of {name}",main,x,',
            f'{name},1,human," first,  of {name}",main,x,',
            f"{name},0,ai,by a model,,,m",
        ]
    planted.stimuli("desc-captions.csv").write_text("\n".join(lines) + "\n")


def write_split(path: Path, train: Sequence[str], test: Sequence[str]) -> Path:
    variants = [{"variant_id": 0, "train_ids": list(train), "test_ids": list(test)}]
    path.write_text(json.dumps({"name": "tau", "n_train": len(train), "n_test": len(test), "variants": variants}))
    return path


def write_surfaces(planted: Planted, vertex_V: np.ndarray, hemi_V: np.ndarray) -> None:
    """FreeSurfer surfaces with a vertex in the middle of each voxel, which `sphere.reg` puts at a vertex of fsaverage5."""
    folder = planted.root / "derivatives/freesurfer/sub-01/surf"
    folder.mkdir(parents=True, exist_ok=True)
    xyz_V3 = planted.ijk_V3 @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    about = {
        "head": [2, 0, 20],
        "valid": "1  # volume info valid",
        "filename": "x",
        "volume": [256, 256, 256],
        "voxelsize": [1.0, 1.0, 1.0],
    }
    about |= {"xras": [-1.0, 0.0, 0.0], "yras": [0.0, 0.0, -1.0], "zras": [0.0, 1.0, 0.0], "cras": CENTRE}
    for number, hemi in enumerate(HEMISPHERES):
        mine = np.flatnonzero(hemi_V == number)
        middle, faces = xyz_V3[mine] - CENTRE, np.array([[0, 1, 2]])
        for name, points in (
            ("white", middle - np.array([0, 0, 1])),
            ("pial", middle + np.array([0, 0, 1])),
            ("sphere.reg", surface("sphere", hemi)[0][vertex_V[mine]] * 0.98),
        ):
            write_geometry(folder / f"{hemi}.{name}", points, faces, volume_info=about)


def small_laion(root: Path) -> Planted:
    """45 voxels, 30 images four times in 3 sessions of 40 trials."""
    rng = np.random.default_rng(0)
    names = [f"shared_12rep_LAION_cluster_{number}_i0.jpg" for number in range(10)]
    names += [f"unique_LAION_cluster_{number}_i1_p01.jpg" for number in range(20)]
    return write_laion(
        root,
        rng.normal(size=(120, 45)) + 2,
        names_T=np.array(names)[np.concatenate([rng.permutation(30) for _ in range(4)])],
        session_T=np.arange(120) // 40 + 1,
        pictures={name: b"\xff\xd8picture of " + name.encode() for name in names},
        region_V=[("faces", "bodies", "places", "words", "early", "none")[voxel % 6] for voxel in range(45)],
    )


def laion_of_arrays(arrays: Path, root: Path) -> Planted:
    """A subject of the `arrays` layout (a phantom) as LAION-fMRI has subjects, with its split as a file."""
    stimuli, trials, voxels = (pq.read_table(arrays / f"{name}.parquet").to_pydict() for name in ("stimuli", "trials", "voxels"))
    pictures = {
        name: (arrays / "images" / uri).read_bytes() for name, uri in zip(stimuli["stimulus_id"], stimuli["uri"], strict=True)
    }
    planted = write_laion(
        root,
        np.load(arrays / "responses.npy"),
        names_T=np.array(trials["stimulus_id"]),
        session_T=np.array(trials["session"]) + 1,
        pictures=pictures,
        region_V=[names[0] for names in voxels["rois"]],
    )
    parts = {
        kind: [name for name, split in zip(stimuli["stimulus_id"], stimuli["split"], strict=True) if split == kind]
        for kind in ("train", "test")
    }
    write_split(root / "split.json", parts["train"], parts["test"])
    return planted
