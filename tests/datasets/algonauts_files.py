"""A small subject in exactly the Algonauts 2023 challenge's layout: names, types, counting, pickled tables of names.

Sizes alone are scaled down: few vertices of fsaverage's 163,842, few pictures of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from scuba_ray.datasets.geometry import HEMISPHERES

VERTICES = 163842
TABLES = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1"),
    "streams": ("early", "midventral", "ventral"),
}


@dataclass(frozen=True)
class Planted:
    """What the files hold: columns of the left hemisphere, then of the right, each in the order of its vertices."""

    root: Path
    responses_SV: np.ndarray
    """Rows in the order of the files: by NSD's number, training images before test images."""
    image_S: np.ndarray
    pictures_S: np.ndarray
    test_S: np.ndarray
    vertex_V: np.ndarray
    hemi_V: np.ndarray
    region_V: np.ndarray
    order_V: np.ndarray
    """Which of the given columns each one is."""

    @property
    def subject(self) -> Path:
        return self.root / "subj01"

    def roi(self, name: str) -> Path:
        return self.subject / "roi_masks" / f"{name}.npy"

    def fmri(self, hemi: str) -> Path:
        return self.subject / f"training_split/training_fmri/{hemi}_training_fmri.npy"


def write_algonauts(
    root: Path,
    responses_SV: np.ndarray,
    image_S: np.ndarray,
    pictures_S: np.ndarray,
    *,
    test_S: np.ndarray,
    region_V: Sequence[str],
    hemi_V: Sequence[str],
    vertex_V: np.ndarray,
) -> Planted:
    """Write subject 1. `image_S` are NSD's numbers; regions are faces, bodies, places, words, or any other (no region)."""
    hemis = np.array([HEMISPHERES.index(hemi) for hemi in hemi_V])
    order_V, order_S = np.lexsort((vertex_V, hemis)), np.lexsort((image_S, test_S))
    planted = Planted(
        root,
        responses_SV[order_S][:, order_V].astype(np.float32),
        image_S[order_S],
        pictures_S[order_S],
        test_S[order_S],
        vertex_V[order_V],
        hemis[order_V],
        np.array(region_V)[order_V],
        order_V,
    )
    for split, short in (("training", "train"), ("test", "test")):
        rows = np.flatnonzero(planted.test_S == (split == "test"))
        for kind in ("fmri", "images"):
            (planted.subject / f"{split}_split/{split}_{kind}").mkdir(parents=True, exist_ok=True)
        for number, hemi in enumerate(HEMISPHERES):
            own = planted.responses_SV[np.ix_(rows, planted.hemi_V == number)]
            np.save(planted.subject / f"{split}_split/{split}_fmri/{hemi}_{split}_fmri.npy", own)
        for count, row in enumerate(rows, 1):
            name = f"{short}-{count:04d}_nsd-{planted.image_S[row]:05d}.png"
            Image.fromarray(planted.pictures_S[row]).save(planted.subject / f"{split}_split/{split}_images" / name)
    write_regions(planted)
    return planted


def write_regions(planted: Planted) -> None:
    (planted.subject / "roi_masks").mkdir(exist_ok=True)
    for collection, names in TABLES.items():
        np.save(planted.roi(f"mapping_{collection}"), {0: "Unknown", **dict(enumerate(names, 1))})  # type: ignore[arg-type]
        label_V = labels_of(collection, planted.region_V)
        for number, hemi in enumerate(HEMISPHERES):
            mine = planted.hemi_V == number
            whole, everything = np.zeros(VERTICES, np.int64), np.zeros(VERTICES, np.int64)
            whole[planted.vertex_V[mine]], everything[planted.vertex_V[mine]] = label_V[mine], 1
            np.save(planted.roi(f"{hemi}.{collection}_challenge_space"), label_V[mine])
            np.save(planted.roi(f"{hemi}.{collection}_fsaverage_space"), whole)
            np.save(planted.roi(f"{hemi}.all-vertices_fsaverage_space"), everything)


def labels_of(collection: str, region_V: np.ndarray) -> np.ndarray:
    if collection == "streams":
        return np.full(len(region_V), 3)
    mine = region_V == {"prf-visualrois": "early"}.get(collection, collection.removeprefix("floc-"))
    return np.where(mine, np.cumsum(mine) % len(TABLES[collection]) + 1, 0)


def write_ceilings(planted: Planted, ceiling_V: np.ndarray) -> None:
    folder = planted.subject / "test_split/noise_ceiling"
    folder.mkdir(parents=True, exist_ok=True)
    for number, hemi in enumerate(HEMISPHERES):
        np.save(folder / f"{hemi}_noise_ceiling.npy", ceiling_V[planted.hemi_V == number])


def small_algonauts(root: Path) -> Planted:
    """41 vertices (17 of the left hemisphere), 60 training images and 10 test images."""
    rng = np.random.default_rng(0)
    hemis = ["rh", "lh", "rh", "rh", "lh"] * 9
    hemis = [hemi for index, hemi in enumerate(hemis) if index not in {1, 2, 3, 8}]
    return write_algonauts(
        root,
        rng.normal(size=(70, len(hemis))),
        rng.choice(73000, 70, replace=False),
        rng.integers(0, 256, (70, 8, 6, 3), dtype=np.uint8),
        test_S=np.arange(70) % 7 == 3,
        region_V=[("faces", "bodies", "places", "words", "early", "none")[voxel % 6] for voxel in range(len(hemis))],
        hemi_V=hemis,
        vertex_V=rng.choice(VERTICES, len(hemis), replace=False),
    )


def algonauts_of_arrays(arrays: Path, root: Path) -> Planted:
    """A phantom as the challenge has subjects: z-scored within each session, all trials together, and averaged over repeats."""
    stimuli, trials, voxels = (pq.read_table(arrays / f"{name}.parquet").to_pydict() for name in ("stimuli", "trials", "voxels"))
    ids = {name: index for index, name in enumerate(stimuli["stimulus_id"])}
    stimulus_T, session_T = np.array([ids[name] for name in trials["stimulus_id"]]), np.array(trials["session"])
    Z_TV = np.load(arrays / "responses.npy").astype(np.float64)
    for session in np.unique(session_T):
        here = session_T == session
        Z_TV[here] = (Z_TV[here] - Z_TV[here].mean(0)) / Z_TV[here].std(0)
    mean_SV = np.stack([Z_TV[stimulus_T == stimulus].mean(0) for stimulus in range(len(ids))])
    return write_algonauts(
        root,
        mean_SV,
        np.sort(np.random.default_rng(2).choice(73000, len(ids), replace=False)),  # so that folds are of the phantom's images
        np.stack([np.asarray(Image.open(arrays / "images" / uri).convert("RGB")) for uri in stimuli["uri"]]),
        test_S=np.array(stimuli["split"]) == "test",
        region_V=[names[0] for names in voxels["rois"]],
        hemi_V=voxels["hemi"],
        vertex_V=np.array(voxels["vertex"]),
    )
