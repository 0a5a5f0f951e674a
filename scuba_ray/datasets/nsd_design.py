"""Who saw which image when, from `nsd_expdesign.mat`; and the two test sets by name.

The file's variables, all counted from 1: `subjectim` (subjects x images) are numbers of the 73,000 images, `masterordering`
(1 x trials) are columns of it, the same order for every subject; `sharedix` are the images that were meant for everybody, and
`stimpattern` (sessions x runs x slots) is 1 where a slot shows an image, which gives every session's number of trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scuba_ray.datasets.places import Place, on_disk
from scuba_ray.datasets.store_file import StoreError
from scuba_ray.errors import ConfigError, DataError

SESSIONS_DONE = (40, 40, 32, 30, 40, 32, 40, 30)
"""Sessions that subjects 1 to 8 really did of the 40 planned (NSD data manual, technical notes)."""
COMMON, SHARED = "common-to-all", "shared1000"
TESTS = (COMMON, SHARED)
REPEATS = 3
"""How often an image is shown at most."""
_VARIABLES = ("subjectim", "masterordering", "sharedix", "stimpattern")


@dataclass(frozen=True)
class Design:
    """The planned experiment. Images are counted from 0, as `imgBrick` of the stimulus file is; sessions from 1."""

    path: Place
    image_SI: npt.NDArray[np.int64]
    """(subjects, images): each subject's images."""
    order_T: npt.NDArray[np.int64]
    """(T,): columns of `image_SI`, trial by trial."""
    shared: frozenset[int]
    trials_N: npt.NDArray[np.int64]
    """(sessions,): trials of each session."""

    @property
    def sessions(self) -> int:
        """Sessions planned."""
        return len(self.trials_N)

    def images_of(self, subject: int, session: int) -> npt.NDArray[np.int64]:
        """Images of one session's trials, in order; `subject` and `session` count from 1."""
        stop = int(self.trials_N[:session].sum())
        images: npt.NDArray[np.int64] = self.image_SI[subject - 1, self.order_T[stop - self.trials_N[session - 1] : stop]]
        return images

    def tests(self, name: str, done: tuple[int, ...]) -> frozenset[int]:
        """The images of a test set.

        `common-to-all`: those that all subjects saw at least once in the sessions they did (`done`, one number per subject); the
        other shared images are training images, as in the published analysis. `shared1000`: all that were meant to be shared.
        """
        if name == SHARED:
            return self.shared
        seen = [set(self.image_SI[row, self.order_T[: self.trials_N[:last].sum()]].tolist()) for row, last in enumerate(done)]
        return frozenset(set.intersection(*seen))


def read_design(path: Place) -> Design:
    """Read and check `nsd_expdesign.mat` (any MATLAB version).

    Raises
    ------
    DataError
        If it is missing, unreadable, lacks a variable, or its variables do not fit each other.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing in {path.parent}; NSD has it in nsddata/experiments/nsd")
    variables = _read_mat(path)
    missing = [name for name in _VARIABLES if name not in variables]
    if missing:
        raise DataError(f"{path} has no variable {missing[0]!r}; NSD's has {', '.join(_VARIABLES)}")
    image_SI, order_T, shared = (np.asarray(variables[name]).astype(np.int64) for name in _VARIABLES[:3])
    trials_N = np.asarray(variables["stimpattern"]).astype(np.int64)
    if image_SI.ndim != 2 or trials_N.ndim != 3:
        raise DataError(f"{path}: subjectim must be (subjects, images), stimpattern (sessions, runs, slots)")
    order_T, trials_N = order_T.ravel(), trials_N.sum((1, 2))
    _check(path, image_SI, order_T, shared, trials_N)
    return Design(path, image_SI - 1, order_T - 1, frozenset((shared.ravel() - 1).tolist()), trials_N)


def _check(path: Place, image_SI: Any, order_T: Any, shared: Any, trials_N: Any) -> None:
    images = image_SI.shape[1]
    for name, values in (("subjectim", image_SI), ("masterordering", order_T), ("sharedix", shared)):
        if values.min() < 1:
            raise DataError(f"{path}: {name} holds {values.min()}, but NSD counts from 1: was it converted to count from 0?")
    if order_T.max() > images:
        raise DataError(f"{path}: masterordering goes to {order_T.max()}, but subjectim has {images} columns")
    if trials_N.sum() != len(order_T):
        raise DataError(f"{path}: masterordering has {len(order_T)} trials, but stimpattern shows {trials_N.sum()} images")
    often = np.bincount(order_T).max()
    if often > REPEATS:
        raise DataError(f"{path}: masterordering shows an image {often} times, NSD {REPEATS} times at most")
    for row, ids in enumerate(image_SI, 1):
        twice, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise DataError(f"{path}: subjectim of subject {row} has image {twice[counts > 1][0]} twice; ids must be unique")


def _read_mat(path: Place) -> dict[str, Any]:
    """Variables of a MATLAB file; those of version 7.3 are HDF5 with the axes in reverse."""
    import h5py
    import scipy.io

    try:
        with on_disk(path) as copy:
            if h5py.is_hdf5(copy):
                with h5py.File(copy, "r") as file:
                    return {name: file[name][()].T for name in _VARIABLES if name in file}
            found: dict[str, Any] = scipy.io.loadmat(copy, variable_names=_VARIABLES)
    except StoreError:
        raise
    except (OSError, ValueError, TypeError, scipy.io.matlab.MatReadError) as error:
        raise DataError(f"{path} is no readable MATLAB file: {error}") from error
    return found


def all_done(design: Design, given: list[int] | None) -> tuple[int, ...]:
    """How many sessions each subject did: NSD's own numbers, unless given. ConfigError unless they fit the design."""
    done = SESSIONS_DONE if given is None else tuple(given)
    if len(done) != len(design.image_SI) or not all(1 <= last <= design.sessions for last in done):
        raise ConfigError(
            f"sessions_done must be {len(design.image_SI)} numbers, one per subject, of 1 to {design.sessions} "
            f"({design.path.name} plans {design.sessions} sessions), got {list(done)}"
        )
    return done
