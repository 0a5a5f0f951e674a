"""What does one of NSD's sessions cost, 81 x 104 x 83 voxels of 750 trials as .nii.gz? Time beside unpacking it, and memory.

`prepare` is the whole first pass over a session, as the step `read` makes it: read by mask, z-scored by its training trials,
written with a row per voxel. The file is made here, in a temporary folder, and deleted: int16, zero outside of an ellipsoid, few
different values within, so that making it does not take minutes. `hdf5` 1 measures NSD's other format too (1 GB on disk).
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import _report

settings = _report.arguments(
    __doc__, x=81, y=104, z=83, trials=750, voxels=15_000, memory_mb=64, hdf5=1, threads=1, rounds=2, directory="", dtype="int16"
)

import h5py  # noqa: E402  (after the thread count is set)
import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from scuba_ray.config import PrepareConfig, SubjectConfig  # noqa: E402
from scuba_ray.datasets.checks import STIMULI, TRIALS, VOXELS  # noqa: E402
from scuba_ray.datasets.nsd_betas import read_betas  # noqa: E402
from scuba_ray.datasets.nsd_folder import SessionFiles  # noqa: E402
from scuba_ray.protocols import Chunk, Resources  # noqa: E402
from scuba_ray.stages.read_sessions import ReadSessions  # noqa: E402
from scuba_ray.tables.columns import table_of  # noqa: E402

SHAPE = (settings.x, settings.y, settings.z)
BUFFER = 1 << 20


def write_session(path: Path, brain: np.ndarray) -> np.ndarray:
    """Write the session, volume by volume, packed fast; returns 16 volumes (Z, Y, X), of which the trials are repetitions."""
    rng = np.random.default_rng(0)
    pool = rng.choice(np.arange(-400, 401, 50, dtype=np.int16), (16, *SHAPE[::-1])) * brain.T
    if settings.dtype == "float32":  # percent signal change, not 300 times as much
        pool = (pool / np.float32(300)).astype(np.float32)
    header = nibabel.Nifti1Header()
    header.set_data_shape((*SHAPE, settings.trials))
    header.set_data_dtype(pool.dtype)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header.set_sform(np.diag([1.8, 1.8, 1.8, 1]), 1)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for trial in range(settings.trials):
            file.write(pool[trial % 16].astype(pool.dtype.newbyteorder("<")).tobytes())
    return pool


def write_twin(path: Path, pool: np.ndarray) -> None:
    """The same as HDF5 (T, Z, Y, X), a voxel's trials in a chunk, written slab by slab."""
    with h5py.File(path, "w") as file:
        shape = (settings.trials, *SHAPE[::-1])
        betas = file.create_dataset("betas", shape, pool.dtype, chunks=(settings.trials, 1, 1, 1))
        for z in range(SHAPE[2]):
            betas[:, z] = pool[np.arange(settings.trials) % 16, z]


class OneSession:
    """The session as a data set: every trial another image, one in ten of them for testing."""

    def __init__(self, subject: str, path: str) -> None:
        self.subject = subject
        self._folder = Path(path)
        self._voxel_V = np.load(self._folder / "voxels.npy")
        self._ids = [str(trial) for trial in range(settings.trials)]

    def stimuli(self) -> pa.Table:
        """An image a trial."""
        split = ["test" if trial % 10 == 0 else "train" for trial in range(settings.trials)]
        return table_of(STIMULI, {"stimulus_id": self._ids, "uri": self._ids, "split": split})

    def trials(self) -> pa.Table:
        """All of one session."""
        return table_of(
            TRIALS, {"trial": list(range(settings.trials)), "stimulus_id": self._ids, "session": [1] * settings.trials}
        )

    def voxels(self) -> pa.Table:
        """Those of the mask."""
        return table_of(VOXELS, {"voxel_id": self._voxel_V})

    def read_session(self, session: int) -> Any:
        """Read them by mask, in percent signal change."""
        files = SessionFiles(session, "nifti", (self._folder / "betas_session01.nii.gz",))
        return read_betas(files, self._voxel_V, settings.memory_mb << 20)


def prepare(folder: str) -> pa.Table:
    """The step `read` on the session, its part written."""
    subject = SubjectConfig(name="subj01", dataset=f"{__name__}:OneSession", path=folder)
    stage = ReadSessions(subject=subject, settings=PrepareConfig(), resources=Resources())
    stage.setup()
    table = stage(stage.read(Chunk(0, 0, 1))).table
    pq.write_table(table, f"{folder}/part.parquet")
    return table


def unpack(path: Path) -> int:
    """Read the whole file and keep nothing."""
    buffer, total = bytearray(BUFFER), 0
    with gzip.open(path) as file:
        while read := file.readinto(buffer):
            total += read
    return total


def main() -> None:
    centred = [(np.arange(size) - (size - 1) / 2) / (size / 2) for size in SHAPE]
    brain = sum(axis**2 for axis in np.meshgrid(*centred, indexing="ij")) < 1
    voxel_V = np.sort(np.random.default_rng(1).choice(np.flatnonzero(brain.ravel()), settings.voxels, replace=False))
    memory = settings.memory_mb << 20
    with tempfile.TemporaryDirectory(dir=settings.directory or None) as folder:
        nifti = Path(folder) / "betas_session01.nii.gz"
        pool = write_session(nifti, brain)
        wanted = pool.transpose(0, 3, 2, 1).reshape(16, -1)[:, voxel_V][np.arange(settings.trials) % 16]
        wanted = wanted if settings.dtype == "float32" else wanted / np.float32(300)
        np.save(Path(folder) / "voxels.npy", voxel_V)
        contenders: dict[str, Any] = {
            "unpack": lambda: unpack(nifti),
            "nifti": lambda: read_betas(SessionFiles(1, "nifti", (nifti,)), voxel_V, memory),
            "prepare": lambda: prepare(folder),
        }
        if settings.hdf5:
            twin = Path(folder) / "betas_session01.hdf5"
            write_twin(twin, pool)
            contenders["hdf5"] = lambda: read_betas(SessionFiles(1, "hdf5", (twin,)), voxel_V, memory)
        pool_bytes = pool.itemsize
        del pool
        seconds = _report.side_by_side(contenders, settings.rounds)
        peaks, difference = {}, {}
        for name in contenders.keys() - {"unpack"}:
            with _report.peak_memory() as peak:
                result = contenders[name]()
            peaks[name] = {"mib": peak["mib"], "mib_above_the_result": peak["mib"] - result.nbytes / 2**20}
            if name != "prepare":
                difference[name] = float(np.abs(result - wanted).max())
            del result
        _report.report(
            settings,
            seconds,
            file_mib=nifti.stat().st_size / 2**20,
            unpacked_mib=settings.trials * np.prod(SHAPE) * pool_bytes / 2**20,
            nifti_over_unpack=_report.ratio(seconds, "nifti", "unpack"),
            prepare_over_unpack=_report.ratio(seconds, "prepare", "unpack"),
            peak_memory=peaks,
            largest_difference=difference,
        )


if __name__ == "__main__":
    main()
