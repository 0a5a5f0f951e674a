"""Responses as steps prepare them, and the formula written out, for tests that compare with either."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from scuba_ray.config import PrepareConfig, SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.protocols import Engine, Resources, SubjectDataset
from scuba_ray.stages.average_repeats import AverageRepeats
from scuba_ray.stages.read_sessions import ReadSessions
from scuba_ray.tables.progress import Scratch
from scuba_ray.tables.responses import Prepared, read_responses
from scuba_ray.tables.steps import Steps
from scuba_ray.tables.store import RunFolder

MEASURED = """
import sys, threading, time
from scuba_ray.config import PrepareConfig, SubjectConfig
from scuba_ray.tables.store import RunFolder
from tests.preparing import prepare_responses
def held():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024
settings = PrepareConfig(chunk=int(sys.argv[5]))
prepare_responses(RunFolder(sys.argv[2]), SubjectConfig(name="small", path=sys.argv[1]), settings)
before, peak, done = held(), 0, threading.Event()
def watch():
    global peak
    while not done.is_set():
        peak = max(peak, held())
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
prepare_responses(RunFolder(sys.argv[4]), SubjectConfig(name="large", path=sys.argv[3]), settings)
done.set()
watcher.join()
print(peak - before)
"""


def memory_of_preparing(folder: Path, run: Path, *, after: Path, into: Path, chunk: int) -> int:
    """Bytes that both passes over a subject hold at most, in a process that has prepared a small one before."""
    places = [str(after), str(into), str(folder), str(run), str(chunk)]
    done = subprocess.run([sys.executable, "-c", MEASURED, *places], capture_output=True, text=True, check=True, timeout=400)
    return int(done.stdout)


def no_engine() -> Engine:
    raise AssertionError("everything is computed here")


def prepare_responses(run: RunFolder, subject: SubjectConfig, settings: PrepareConfig | None = None) -> Prepared:
    """Complete both passes over a subject in this process, and read all of it."""
    settings, dataset = settings or PrepareConfig(), make_dataset(subject)
    first = ReadSessions(subject=subject, settings=settings, resources=Resources())
    last = AverageRepeats(subject=subject, run=run, resources=Resources())
    sessions, voxels = len(dataset.trials()["session"].unique()), dataset.voxels().num_rows
    Steps(run, no_engine, about={}).complete(
        last,
        key=subject.name,
        rows=voxels,
        chunk=settings.chunk,
        inputs=[dataset.fingerprint()],
        here=True,
        scratch=Scratch(first, sessions, 1),
    )
    return read_responses(run, subject.name, 0, voxels)


def written_out(dataset: SubjectDataset) -> np.ndarray:
    """METHOD section 1 in float64, a voxel, a session and a stimulus at a time: (S, V), missing trials as 0."""
    trials, stimuli = dataset.trials().to_pylist(), dataset.stimuli().to_pylist()
    split = {row["stimulus_id"]: row["split"] for row in stimuli}
    shown: dict[str, list[np.ndarray]] = {row["stimulus_id"]: [] for row in stimuli}
    for session in sorted({row["session"] for row in trials}):
        mine = [row["stimulus_id"] for row in trials if row["session"] == session]
        X_TV = dataset.read_session(session).astype(np.float64)
        X_TV[~np.isfinite(X_TV)] = np.nan
        training = np.array([split[stimulus] == "train" for stimulus in mine])
        Z_TV = np.zeros_like(X_TV)
        for voxel in range(X_TV.shape[1]):
            x = X_TV[:, voxel]
            known = x[training & ~np.isnan(x)]
            if len(known) and known.min() < known.max():
                Z_TV[:, voxel] = np.nan_to_num((x - known.mean()) / (known.std() + 1e-6))
        for stimulus, row in zip(mine, Z_TV, strict=True):
            shown[stimulus].append(row)
    return np.array([np.mean(shown[row["stimulus_id"]], axis=0) for row in stimuli])
