"""The same small responses in every kind of file that the layout `files` reads, beside the same in the layout `arrays`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from PIL import Image

STIMULI, TESTS, REPEATS, SESSIONS = 12, 3, 3, 3
TRIALS = STIMULI * REPEATS
SHAPE = (4, 3, 5)
AFFINE = np.array([[2.0, 0, 0, -4], [0, 2, 0, -3], [0, 0, 2, -5], [0, 0, 0, 1]])
INSIDE = np.array([1, 7, 8, 22, 31, 40, 59])
"""Flat indices of the voxels, last axis fastest; of surfaces, vertices of 30 left and 30 right ones."""
FACES, LABELS = np.array([7, 31]), {1: "V1", 4: "hV4"}
V1, HV4 = np.array([1, 8]), np.array([59])
LEFT = 30
COUNT = int(np.prod(SHAPE))
VOXELS = len(INSIDE)
NCSNR = np.linspace(0.1, 0.9, VOXELS, dtype=np.float32)

Written = dict[str, Any]
"""Options that name what was written."""


def responses() -> np.ndarray:
    """(TRIALS, COUNT) float32, whole hundredths so that a scale of 100 keeps them; NaN nowhere."""
    rng = np.random.default_rng(5)
    values: np.ndarray = (rng.integers(-900, 900, (TRIALS, COUNT)) / np.float32(100)).astype(np.float32)
    return values


def shown() -> list[str]:
    return [f"{index:05d}" for index in np.random.default_rng(6).permutation(np.repeat(np.arange(STIMULI), REPEATS))]


def session_of() -> list[int]:
    return (np.arange(TRIALS) * SESSIONS // TRIALS + 1).tolist()  # type: ignore[no-any-return]


def pictures() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, (STIMULI, 20, 20, 3), dtype=np.uint8)


def write_tables(folder: Path) -> Written:
    """Trials, stimuli with split, and a folder of pictures. Ids look like numbers and are none."""
    (folder / "images").mkdir(parents=True)
    for index, pixels in enumerate(pictures()):
        Image.fromarray(pixels).save(folder / f"images/p{index}.png")
    trials = pa.table({"stimulus": shown(), "session": session_of(), "rt": np.arange(TRIALS) / 10})
    pyarrow.csv.write_csv(trials, folder / "trials.csv")
    ids = [f"{index:05d}" for index in range(STIMULI)]
    split = ["test"] * TESTS + ["train"] * (STIMULI - TESTS)
    stimuli = pa.table({"stimulus": ids, "uri": [f"p{index}.png" for index in range(STIMULI)], "split": split})
    pyarrow.csv.write_csv(stimuli, folder / "stimuli.csv")
    return {"trials": "trials.csv", "stimuli": "stimuli.csv", "images": "images"}


def write_voxels(folder: Path) -> Written:
    """A table of the voxels, as CSV."""
    rois = [";".join(names) for names in regions()]
    table = {"voxel_id": INSIDE, "hemi": ["lh" if index < LEFT else "rh" for index in INSIDE], "rois": rois, "ncsnr": NCSNR}
    pyarrow.csv.write_csv(pa.table(table), folder / "voxels.csv")
    return {"voxels": "voxels.csv"}


def regions() -> list[list[str]]:
    named = [("faces", FACES), ("V1", V1), ("hV4", HV4)]
    return [[name for name, inside in named if index in inside] for index in INSIDE]


def write_arrays(folder: Path) -> Path:
    """The reference: the layout `arrays`."""
    write_tables(folder)
    (folder / "dataset.json").write_text(json.dumps({"layout": "arrays", "version": 1, "subject": "lab", "geometry": None}))
    stimuli = pyarrow.csv.read_csv(
        folder / "stimuli.csv", convert_options=pyarrow.csv.ConvertOptions(column_types={"stimulus": pa.string()})
    )
    pq.write_table(stimuli.rename_columns(["stimulus_id", "uri", "split"]), folder / "stimuli.parquet")
    trials = {"trial": np.arange(TRIALS), "stimulus_id": shown(), "session": session_of()}
    pq.write_table(pa.table(trials), folder / "trials.parquet")
    pq.write_table(pa.table({"voxel_id": INSIDE, "rois": regions(), "ncsnr": NCSNR}), folder / "voxels.parquet")
    np.save(folder / "responses.npy", responses()[:, INSIDE])
    return folder


def volume(values: np.ndarray) -> np.ndarray:
    """A map over all voxels, as (X, Y, Z)."""
    return values.reshape(SHAPE)


def filled(indices: np.ndarray, value: Any = 1, dtype: Any = np.uint8) -> np.ndarray:
    """A map (COUNT,), `value` at some places and 0 elsewhere."""
    made = np.zeros(COUNT, dtype)
    made[indices] = value
    return made


def all_maps() -> dict[str, np.ndarray]:
    labels = filled(V1) + 4 * filled(HV4)
    return {"mask": filled(INSIDE), "faces": filled(FACES), "labels": labels, "ncsnr": filled(INSIDE, NCSNR, np.float32)}


def map_options(names: dict[str, Any]) -> Written:
    labels = [{"map": names["labels"], "names": LABELS}]
    return {"mask": names["mask"], "rois": {"faces": names["faces"]}, "labels": labels, "ncsnr": names["ncsnr"]}


def volume_maps(folder: Path) -> Written:
    for name, values in all_maps().items():
        nibabel.save(nibabel.Nifti1Image(volume(values), AFFINE), folder / f"{name}.nii.gz")
    return map_options({name: f"{name}.nii.gz" for name in all_maps()})


def by_session(values: np.ndarray) -> list[np.ndarray]:
    """The trials of each session."""
    sessions = np.array(session_of())
    return [values[sessions == session] for session in range(1, SESSIONS + 1)]


def npy(folder: Path) -> Written:
    np.save(folder / "r.npy", responses()[:, INSIDE])
    return {"responses": "r.npy", **write_voxels(folder)}


def npy_turned(folder: Path) -> Written:
    np.save(folder / "r.npy", np.asfortranarray(responses()[:, INSIDE].T))
    return {"responses": "r.npy", **write_voxels(folder)}


def npy_of_hundredths(folder: Path) -> Written:
    np.save(folder / "r.npy", np.round(responses()[:, INSIDE] * 100).astype(np.int16))
    return {"responses": "r.npy", "scale": 100, **write_voxels(folder)}


def npy_of_a_mask(folder: Path) -> Written:
    """As nilearn's maskers give it: a column per voxel inside."""
    np.save(folder / "r.npy", responses()[:, INSIDE])
    return {"responses": "r.npy", **volume_maps(folder)}


def npz(folder: Path) -> Written:
    np.savez(folder / "r.npz", betas=responses()[:, INSIDE], other=np.ones(3))
    return {"responses": "r.npz:betas", **write_voxels(folder)}


def hdf5_by_session(folder: Path) -> Written:
    for number, values in zip((2, 9, 10), by_session(responses()[:, INSIDE]), strict=True):
        with h5py.File(folder / f"ses-{number}.h5", "w") as file:
            file["glm/betas"] = values
    return {"responses": "ses-*.h5:glm/betas", **write_voxels(folder)}


def hdf5_turned(folder: Path) -> Written:
    with h5py.File(folder / "r.h5", "w") as file:
        file.create_dataset("betas", data=responses()[:, INSIDE].T, chunks=(2, 5))
    return {"responses": "r.h5", "orientation": "voxels-first", **write_voxels(folder)}


def parquet_columns(folder: Path) -> Written:
    table = {f"v{index}": responses()[:, index] for index in INSIDE}
    pq.write_table(pa.table(table), folder / "r.parquet", row_group_size=10)
    return {"responses": "r.parquet", **write_voxels(folder)}


def parquet_lists(folder: Path) -> Written:
    lists = pa.array(responses()[:, INSIDE].tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"trial": np.arange(TRIALS), "betas": lists}), folder / "r.parquet", row_group_size=7)
    return {"responses": "r.parquet:betas", **write_voxels(folder)}


def nifti(folder: Path) -> Written:
    for number, values in enumerate(by_session(responses()), 1):
        image = nibabel.Nifti1Image(np.moveaxis(values.reshape(-1, *SHAPE), 0, -1), AFFINE)
        nibabel.save(image, folder / f"ses-{number:02d}.nii.gz")
    return {"responses": [f"ses-{number:02d}.nii.gz" for number in (1, 2, 3)], **volume_maps(folder)}


def nifti_int16(folder: Path) -> Written:
    """One file that is not packed, whole numbers, and a scale."""
    whole = np.round(responses() * 100).astype(np.int16).reshape(-1, *SHAPE)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(whole, 0, -1), AFFINE), folder / "r.nii")
    return {"responses": "r.nii", "scale": 100, **volume_maps(folder)}


def by_hemisphere(folder: Path, save: Callable[[np.ndarray, Path], None], end: str) -> Written:
    """Responses and maps for each hemisphere, saved by `save` as (maps, vertices)."""
    names: dict[str, Any] = {}
    for name, values in {"responses": responses(), **{name: one[None] for name, one in all_maps().items()}}.items():
        for hemi, part in (("lh", values[:, :LEFT]), ("rh", values[:, LEFT:])):
            save(part.astype(np.float32), folder / f"{hemi}.{name}{end}")
        names[name] = {hemi: f"{hemi}.{name}{end}" for hemi in ("lh", "rh")}
    return {"responses": names["responses"], **map_options(names)}


def mgh(folder: Path) -> Written:
    def save(values: np.ndarray, path: Path) -> None:
        maps = np.ascontiguousarray(values.T)[:, None, None]
        nibabel.save(nibabel.MGHImage(maps[..., 0] if len(values) == 1 else maps, np.eye(4)), path)

    return by_hemisphere(folder, save, ".mgh")


def gifti(folder: Path) -> Written:
    def save(values: np.ndarray, path: Path) -> None:
        arrays = [nibabel.gifti.GiftiDataArray(np.ascontiguousarray(one), datatype="NIFTI_TYPE_FLOAT32") for one in values]
        nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)

    return by_hemisphere(folder, save, ".func.gii")


def cifti(folder: Path) -> Written:
    """Grayordinates: 30 left vertices, 20 right ones and 10 voxels of the thalamus."""
    axis = nibabel.cifti2
    left = axis.BrainModelAxis.from_surface(np.arange(LEFT) * 2, 100, "CortexLeft")
    right = axis.BrainModelAxis.from_surface(np.arange(20), 100, "CortexRight")
    inside = np.zeros(SHAPE, bool)
    inside.reshape(-1)[:10] = True
    model = left + right + axis.BrainModelAxis.from_mask(inside, name="thalamus_left", affine=AFFINE)
    series = axis.SeriesAxis(0, 1, TRIALS)
    nibabel.save(nibabel.Cifti2Image(responses(), (series, model)), folder / "r.dtseries.nii")
    for name, values in all_maps().items():
        scalar = nibabel.Cifti2Image(values[None].astype(np.float32), (axis.ScalarAxis([name]), model))
        nibabel.save(scalar, folder / f"{name}.dscalar.nii")
    return {"responses": "r.dtseries.nii", **map_options({name: f"{name}.dscalar.nii" for name in all_maps()})}


KINDS: dict[str, Callable[[Path], Written]] = {
    "npy": npy,
    "npy, voxels first": npy_turned,
    "npy of whole numbers": npy_of_hundredths,
    "npy of a mask's voxels": npy_of_a_mask,
    "npz": npz,
    "HDF5, a file per session": hdf5_by_session,
    "HDF5, voxels first": hdf5_turned,
    "Parquet columns": parquet_columns,
    "Parquet lists": parquet_lists,
    "NIfTI, a file per session": nifti,
    "NIfTI of whole numbers": nifti_int16,
    "MGH": mgh,
    "GIfTI": gifti,
    "CIFTI": cifti,
}


def write_lab(folder: Path, kind: str) -> Written:
    """A data set whose responses are of one kind; the options that name its files."""
    tables = write_tables(folder)
    return {**tables, **KINDS[kind](folder)}
