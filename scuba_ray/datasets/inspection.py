"""What a data set holds, from its tables and a small sample: for `scuba data check`, before anything long starts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.datasets.images import FolderImages
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.datasets.preparation import BAD_SHARE
from scuba_ray.errors import DataError
from scuba_ray.protocols import Described, Pictures, SubjectDataset

State = Literal["problem", "warning", "note"]
PICTURES = 48
"""Pictures that are read and decoded, spread evenly over the stimuli."""
VOXELS = 200
"""Voxels that are looked at, spread evenly."""
_WHOLE = 100.0
"""Whole numbers beyond this are no percent signal change: somebody's int16 that was never divided."""
_LARGE = 50.0
"""Deviation over a session above which numbers are no percent signal change and no z-scores either."""
_Z_MEAN, _Z_DEVIATION = 0.02, 0.02
_MOST = 0.9


@dataclass
class Inspection:
    """Facts in the order they are told, and what a reader should know of them."""

    facts: dict[str, Any] = field(default_factory=dict)
    remarks: list[tuple[State, str]] = field(default_factory=list)
    seconds_per_trial: float = 0.0
    """Reading one trial of the session that was read."""
    seconds_per_picture: float = 0.0
    """Reading and decoding one picture, in one process."""


def inspect(dataset: SubjectDataset) -> Inspection:
    """Look at a data set that is open: its tables, one session's responses at some voxels, and some of its pictures.

    Memory: one session's responses, T_s * V * 4 bytes.
    """
    found = Inspection()
    stimuli, trials, voxels = dataset.stimuli(), dataset.trials(), dataset.voxels()
    about = dataset.about() if isinstance(dataset, Described) else {}
    found.facts |= _of_trials(stimuli, trials, about)
    found.facts |= _of_voxels(voxels)
    found.facts["noise ceilings"] = _ceilings(voxels, stimuli, trials)
    geometry = dataset.geometry()
    found.facts["drawn on"] = geometry.space if geometry is not None else None
    if isinstance(dataset, Described):
        found.remarks += [("note", note) for note in dataset.notes()]
    _look_at_responses(dataset, trials, found)
    _look_at_pictures(dataset.images(), stimuli, found)
    return found


def _of_trials(stimuli: pa.Table, trials: pa.Table, about: Mapping[str, Any]) -> dict[str, Any]:
    per_session = Counter(trials["session"].to_pylist())
    repeats = Counter(Counter(trials["stimulus_id"].to_pylist()).values())
    splits = Counter(stimuli["split"].to_pylist())
    captions = len(stimuli) - stimuli["caption"].null_count if "caption" in stimuli.column_names else 0
    return {
        "sessions": len(per_session),
        "trials": len(trials),
        "trials in the largest session": max(per_session.values()),
        "images": len(stimuli),
        "training images": splits["train"],
        "test images": splits["test"],
        "test set": about.get("test", "the column split"),
        "images by repeats": {str(count): repeats[count] for count in sorted(repeats)},
        "images with captions": captions,
    }


def _of_voxels(voxels: pa.Table) -> dict[str, Any]:
    regions = Counter(name for names in voxels["rois"].to_pylist() for name in names)
    return {
        "voxels": len(voxels),
        "voxels by region": dict(sorted(regions.items())),
        "voxels in no region": int(pc.sum(pc.equal(pc.list_value_length(voxels["rois"]), 0)).as_py() or 0),
        "voxels with ncsnr": len(voxels) - voxels["ncsnr"].null_count,
        "voxels by hemisphere": {
            str(name or "unknown"): count for name, count in sorted(Counter(voxels["hemi"].to_pylist()).items(), key=str)
        },
    }


def _ceilings(voxels: pa.Table, stimuli: pa.Table, trials: pa.Table) -> str:
    known = len(voxels) - voxels["ncsnr"].null_count
    repeated = len(trials) > len(stimuli)
    if known == len(voxels):
        return "from ncsnr"
    others = "from repeats" if repeated else "unknown: nothing was shown twice"
    return f"from ncsnr for {known} voxels, else {others}" if known else others


def _look_at_responses(dataset: SubjectDataset, trials: pa.Table, found: Inspection) -> None:
    session = min(trials["session"].to_pylist())
    began = time.perf_counter()
    try:
        X_TV = dataset.read_session(session)
    except (DataError, OSError) as error:
        found.remarks.append(("problem", str(error)))
        return
    found.seconds_per_trial = (time.perf_counter() - began) / len(X_TV)
    step = max(X_TV.shape[1] // VOXELS, 1)
    sample_TV = X_TV[:, ::step].astype(np.float64)
    found.facts["responses"] = _range(sample_TV, session)
    found.remarks += remarks_on(sample_TV, session)


def _range(sample_TV: npt.NDArray[np.float64], session: int) -> dict[str, Any]:
    finite = sample_TV[np.isfinite(sample_TV)]
    low, middle, high = np.percentile(finite, [1, 50, 99]).tolist() if finite.size else (None, None, None)
    return {
        "session": session,
        "voxels looked at": sample_TV.shape[1],
        "1 %": low,
        "median": middle,
        "99 %": high,
        "missing share": 1 - finite.size / sample_TV.size if sample_TV.size else 0.0,
    }


def remarks_on(sample_TV: npt.NDArray[np.float64], session: int) -> list[tuple[State, str]]:
    """What a reader should know of the numbers of some voxels (T, V) in one session."""
    finite_TV = np.isfinite(sample_TV)
    if not finite_TV.any():
        return [("problem", f"session {session}: all {sample_TV.size} values looked at are missing")]
    remarks: list[tuple[State, str]] = []
    values = sample_TV[finite_TV]
    counts_V = np.maximum(finite_TV.sum(0), 1)
    mean_V = np.where(finite_TV, sample_TV, 0).sum(0) / counts_V
    deviation_V = np.sqrt(np.where(finite_TV, (sample_TV - mean_V) ** 2, 0).sum(0) / counts_V)
    largest = float(np.abs(values).max())
    typical = float(np.median(deviation_V))
    if (values == np.round(values)).all() and largest > _WHOLE:
        text = (
            f"responses are whole numbers up to {largest:.0f}, like int16 betas that were not divided (NSD's are 300 times the "
        )
        remarks.append(("warning", f"session {session}: {text}percent signal change): divide them, or set `scale`"))
    elif typical > _LARGE:
        text = f"the median voxel varies by {typical:.0f}, too much for percent signal change: is a scale missing (300 for NSD's "
        remarks.append(("warning", f"session {session}: {text}int16 betas)?"))
    varying_V = deviation_V > 0
    standard_V = (np.abs(mean_V) < _Z_MEAN) & (np.abs(deviation_V - 1) < _Z_DEVIATION)
    if varying_V.any() and standard_V[varying_V].mean() > _MOST:
        text = "voxels have mean 0 and deviation 1 already: they were z-scored, with the test trials unless somebody took care; "
        text += "a run standardises again by training trials, which cannot undo that"
        remarks.append(("warning", f"session {session}: {text}"))
    constant, missing = float((~varying_V).mean()), float(((~finite_TV).mean(0) > BAD_SHARE).mean())
    if constant:
        remarks.append(("warning", f"session {session}: {constant:.1%} of the voxels looked at do not vary: status constant"))
    if missing:
        remarks.append(
            ("warning", f"session {session}: of {missing:.1%} of the voxels looked at many trials are missing: status bad")
        )
    return remarks


def _look_at_pictures(pictures: Pictures, stimuli: pa.Table, found: Inspection) -> None:
    uris = stimuli["uri"].to_pylist()
    chosen = _unlisted(pictures, uris) | {index * (len(uris) - 1) // max(PICTURES - 1, 1) for index in range(PICTURES)}
    refused, sizes = [], Counter[str]()
    began = time.perf_counter()
    for index in sorted(chosen):
        try:
            image = decode_image(pictures.read(uris[index]))
            sizes[f"{image.width} x {image.height}"] += 1
        except (DataError, OSError) as error:
            refused.append(f"{uris[index]}: {error}")
    found.seconds_per_picture = (time.perf_counter() - began) / len(chosen)
    found.facts["pictures looked at"] = len(chosen)
    found.facts["picture sizes"] = dict(sizes.most_common(5))
    if refused:
        state: State = "problem" if len(refused) == len(chosen) else "warning"
        shown = "; ".join(refused[:3]) + (f"; and {len(refused) - 3} more" if len(refused) > 3 else "")
        after = "nothing can be encoded" if state == "problem" else "a run quarantines such pictures and goes on without"
        found.remarks.append((state, f"{len(refused)} of {len(chosen)} pictures looked at cannot be read ({shown}): {after}"))


def _unlisted(pictures: Pictures, uris: list[str]) -> set[int]:
    """Of a folder's pictures those that its listing does not have: they are looked at, all of them."""
    if not isinstance(pictures, FolderImages):
        return set()
    try:
        listed = set(pictures.files()["name"].to_pylist())
    except (DataError, OSError):
        return set()  # an empty folder: the sample says so
    return {index for index, uri in enumerate(uris) if uri not in listed}
