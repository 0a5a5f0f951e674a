"""Every layout on an object store: what is read, and what it is called, is what the same files on a disk give."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset
from scuba_ray.protocols import Described, SubjectDataset
from scuba_ray.tables.store import RunFolder
from tests.datasets import lab_files as lab
from tests.datasets.algonauts_files import small_algonauts, write_ceilings
from tests.datasets.laion_fmri_files import small_laion, write_surfaces
from tests.datasets.nsd_files import DONE, Planted, write_surface, write_transforms
from tests.datasets.stores import stored
from tests.preparing import prepare_responses


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder; nothing may be left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not [*folder.iterdir()]


def opened(layout: str, path: str, options: dict[str, Any]) -> SubjectDataset:
    return make_dataset(SubjectConfig(name="s1", dataset=layout, path=path, options=options))


def check_same(layout: str, folder: Path, **options: Any) -> SubjectDataset:
    """Open a data set on the disk and on a store, and hold all they give against each other; the one on the store."""
    near = opened(layout, str(folder), options)
    with stored(folder) as uri:
        far: SubjectDataset = pickle.loads(pickle.dumps(opened(layout, uri, options)))
        for table in ("stimuli", "trials", "voxels"):
            assert getattr(far, table)().equals(getattr(near, table)()), table
        for session in near.trials()["session"].unique().to_pylist():
            np.testing.assert_array_equal(far.read_session(session), near.read_session(session))
        assert far.fingerprint() == near.fingerprint()
        if isinstance(far, Described) and isinstance(near, Described):
            assert far.about() == near.about()
            assert [note.replace(uri, str(folder)) for note in far.notes()] == near.notes()
        for picture in near.stimuli()["uri"].to_pylist()[::9]:
            assert far.images().read(picture) == near.images().read(picture)
        mine, theirs = near.geometry(), far.geometry()
        assert (mine is None) == (theirs is None) and (mine is None or theirs is None or mine.space == theirs.space)
    return far


@pytest.mark.parametrize("kind", ["nifti", "hdf5"])
def test_nsd(nsd: Planted, kind: str, temporary: Path) -> None:
    check_same("nsd", nsd.root, nsd_subject="subj01", sessions_done=DONE, format=kind)


def test_a_run_prepares_the_same_responses(nsd: Planted, tmp_path: Path, temporary: Path) -> None:
    options = {"nsd_subject": "subj01", "sessions_done": DONE, "format": "nifti"}
    with stored(nsd.root) as uri:
        made = [
            prepare_responses(
                RunFolder(str(tmp_path / name)), SubjectConfig(name="s1", dataset="nsd", path=path, options=options)
            )
            for name, path in (("near", str(nsd.root)), ("far", uri))
        ]
    np.testing.assert_array_equal(made[0].Y_SV, made[1].Y_SV)


def test_nsd_with_transforms_and_on_fsaverage(own: Planted, temporary: Path) -> None:
    write_transforms(own)
    far = check_same("nsd", own.root, nsd_subject="subj01", sessions_done=DONE)
    assert far.geometry() is not None
    write_surface(own, [1, 2])
    options: dict[str, Any] = {"nsd_subject": "subj01", "sessions_done": DONE, "space": "fsaverage", "sessions": [1, 2]}
    np.save(own.root / "mine.npy", np.arange(400) % 4 == 0)
    check_same("nsd", own.root, **options, test="shared1000", mask="floc-faces + floc-places & mine.npy")


@pytest.mark.parametrize("test", ["share", "test-split"])
def test_algonauts(test: str, tmp_path: Path, temporary: Path) -> None:
    planted = small_algonauts(tmp_path / "data")
    write_ceilings(planted, np.linspace(0.1, 0.9, len(planted.hemi_V)))
    np.save(planted.root / "mine.npy", np.arange(len(planted.hemi_V)) % 3)
    check_same("algonauts2023", planted.root, challenge_subject="subj01", test=test, mask="all & mine.npy")


def test_laion_fmri(tmp_path: Path, temporary: Path) -> None:
    planted = small_laion(tmp_path / "data")
    write_surfaces(planted, np.arange(len(planted.ijk_V3)) * 7, np.arange(len(planted.ijk_V3)) % 2)
    check_same("laion_fmri", planted.root, laion_subject="sub-01")


@pytest.mark.parametrize("kind", sorted(lab.KINDS))
def test_files(kind: str, tmp_path: Path, temporary: Path) -> None:
    options = lab.write_lab(tmp_path / "lab", kind)
    check_same("files", tmp_path / "lab", **options)


def test_arrays(tmp_path: Path, temporary: Path) -> None:
    check_same("arrays", lab.write_arrays(tmp_path / "lab"))


def test_files_of_another_place(tmp_path: Path, temporary: Path) -> None:
    """An absolute path is on this machine, and a URI anywhere, whatever `path` is."""
    options = lab.write_lab(tmp_path / "lab", "HDF5, a file per session")
    near = opened("files", str(tmp_path / "lab"), options)
    with stored(tmp_path / "lab") as uri:
        mixed = {**options, "trials": str(tmp_path / "lab/trials.csv"), "responses": f"{uri}/ses-*.h5:glm/betas"}
        for place in (uri, str(tmp_path / "lab")):
            far = opened("files", place, mixed)
            np.testing.assert_array_equal(far.read_session(2), near.read_session(2))
            assert far.fingerprint() == near.fingerprint()
