from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets.arrays import ArraysDataset
from scuba_ray.datasets.images import FolderImages
from scuba_ray.datasets.pictures import decode_image
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.phantom import make
from scuba_ray.phantom.make import make_phantom
from scuba_ray.phantom.truth import has_truth, read_truth
from scuba_ray.tables.responses import Prepared
from scuba_ray.tables.store import RunFolder
from tests.preparing import prepare_responses

SIZE = {"voxels": 150, "images": 400, "bank": 120}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "one", seed=7, **SIZE)


def prepared_from(folder: Path, out: Path) -> Prepared:
    return prepare_responses(RunFolder(str(out)), SubjectConfig(name="p", path=str(folder)))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_read_like_any_data_set(phantom: Path) -> None:
    dataset = ArraysDataset("phantom", str(phantom))
    stimuli, voxels = dataset.stimuli(), dataset.voxels()
    assert len(stimuli) == 400 and stimuli["split"].to_pylist().count("test") == 40
    assert len(voxels) == 150 and voxels["ncsnr"].null_count == 150
    assert {roi for rois in voxels["rois"].to_pylist() for roi in rois} == {
        "faces",
        "bodies",
        "places",
        "words",
        "food",
        "objects",
    }
    sessions = sorted(set(dataset.trials()["session"].to_pylist()))
    assert sum(len(dataset.read_session(session)) for session in sessions) == 1200
    assert dataset.read_session(sessions[0]).shape[1] == 150
    for uri in stimuli["uri"].to_pylist()[::50]:
        assert decode_image(dataset.images().read(uri)).size == (64, 64)
    bank = FolderImages(str(phantom / "bank")).files()
    assert len(bank) == 120 and bank["name"][0].as_py() == "000/00000.png"
    assert all(pq.read_table(phantom / "stimuli.parquet")["caption"].to_pylist())


def test_what_was_planted_can_be_measured(phantom: Path, tmp_path: Path) -> None:
    """Ridge-free: in averaged responses, scenes with a single voxel's concept stand out from the others."""
    truth, vocabulary = read_truth(phantom)
    dataset = ArraysDataset("phantom", str(phantom))
    prepared = prepared_from(phantom, tmp_path)
    captions = dict(
        zip(*pq.read_table(phantom / "stimuli.parquet").select(["stimulus_id", "caption"]).to_pydict().values(), strict=True)
    )
    shown = [vocabulary.named(captions[stimulus]) for stimulus in dataset.stimuli()["stimulus_id"].to_pylist()]
    right = []
    for row in truth.to_pylist():
        if row["voxel_class"] == "single" and row["noise_ceiling"] > 0.3:
            here = np.array([row["concept"] in concepts for concepts in shown])
            response = prepared.Y_SV[:, row["voxel_id"]]
            right.append(response[here].mean() - response[~here].mean() > 0.5)
    assert len(right) > 20 and np.mean(right) > 0.95
    planted = np.array(truth["noise_ceiling"])
    assert np.corrcoef(planted, prepared.noise_ceiling_V)[0, 1] > 0.9
    assert np.abs(planted - prepared.noise_ceiling_V).mean() < 0.1


def test_the_same_seed_gives_the_same_bytes_and_shares_test_stimuli_with_others(phantom: Path, tmp_path: Path) -> None:
    again = digests(make_phantom(tmp_path / "again", seed=7, **SIZE))
    assert again == digests(phantom)
    other = digests(make_phantom(tmp_path / "other", seed=8, **SIZE))
    shared = {name: value for name, value in again.items() if name.startswith("images/shared")}
    assert len(shared) == 40 and shared.items() <= other.items()
    own = {value for name, value in again.items() if name.endswith(".png") and name not in shared}
    assert own.isdisjoint(other.values())
    assert again["responses.npy"] != other["responses.npy"] and again["truth.parquet"] != other["truth.parquet"]


def test_no_picture_is_in_two_places(phantom: Path) -> None:
    pictures = [value for name, value in digests(phantom).items() if name.endswith(".png")]
    assert len(pictures) == 520 and len(set(pictures)) == 520


def test_permuted_responses_keep_their_ceilings_and_lose_their_content(phantom: Path, tmp_path: Path) -> None:
    permuted = make_phantom(tmp_path / "null", seed=7, permuted=True, **SIZE)
    straight, shuffled = digests(phantom), digests(permuted)
    assert {name for name in straight if straight[name] != shuffled[name]} == {"responses.npy", "dataset.json", "trials.parquet"}
    first, second = (prepared_from(folder, tmp_path / f"run of {folder.name}") for folder in (phantom, permuted))
    assert np.corrcoef(first.noise_ceiling_V, second.noise_ceiling_V)[0, 1] > 0.9
    good = first.noise_ceiling_V > 0.4
    r = [np.corrcoef(first.Y_SV[:, voxel], second.Y_SV[:, voxel])[0, 1] for voxel in np.flatnonzero(good)]
    assert abs(np.mean(r)) < 0.05


def test_a_whole_phantom_is_reused_and_a_different_one_refused(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (phantom / "responses.npy").stat().st_mtime_ns
    assert make_phantom(phantom, seed=7, **SIZE) == phantom
    assert (phantom / "responses.npy").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"another phantom \(seed 7, wanted 9\)"):
        make_phantom(phantom, seed=9, **SIZE)
    with pytest.raises(ConfigError, match="permuted"):
        make_phantom(phantom, seed=7, permuted=True, **SIZE)


def test_an_interrupted_make_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantom: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > 400:
            raise StopError

    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(StopError):
        make_phantom(folder, seed=7, progress=stop, **SIZE)
    assert not any(folder.iterdir())
    seen: list[tuple[int, int]] = []
    make_phantom(folder, seed=7, progress=lambda done, total: seen.append((done, total)), **SIZE)
    assert digests(folder) == digests(phantom)
    assert seen[-1] == (520, 520) and seen == sorted(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is no phantom"):
        make_phantom(tmp_path, **SIZE)
    with pytest.raises(ConfigError, match="cannot write"):
        make_phantom(tmp_path / "notes.txt" / "phantom", **SIZE)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong", [{"voxels": 59}, {"voxels": 16_001}, {"images": 99}, {"bank": 0}, {"seed": -1}, {"seed": 400_000_000}]
)
def test_numbers_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make_phantom(tmp_path / "phantom", **wrong)
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make, "write_folder", full)
    with pytest.raises(DataError, match="No space left"):
        make_phantom(tmp_path / "phantom", **SIZE)


def test_truth_that_is_missing_or_damaged(phantom: Path, tmp_path: Path) -> None:
    assert has_truth(phantom) and not has_truth(tmp_path)
    for name in ("truth.parquet", "concepts.json", "other_drawings.json"):
        (tmp_path / name).write_bytes((phantom / name).read_bytes())
    assert read_truth(tmp_path)[0].equals(read_truth(phantom)[0])
    (tmp_path / "concepts.json").write_text(json.dumps({"mammals": {}}))
    with pytest.raises(DataError, match="truth of the phantom"):
        read_truth(tmp_path)
