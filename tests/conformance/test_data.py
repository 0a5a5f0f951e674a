"""What data sets, image sources and every name of the registry promise: tables with these columns, and that they travel."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.datasets.content import picture_digest
from scuba_ray.errors import ConfigError, DataError
from scuba_ray.protocols import BadRow, Described, Gridded, ImageSource, SubjectDataset
from scuba_ray.registry import SEAMS, resolve
from tests.datasets.algonauts_files import small_algonauts
from tests.datasets.lab_files import write_lab
from tests.datasets.laion_fmri_files import small_laion
from tests.datasets.nsd_files import DONE, small_nsd
from tests.datasets.packed import pack_parquet, pack_tars, pictures_below
from tests.study import TinyStudy

DATASETS: dict[str, Callable[[TinyStudy, Path], tuple[Path, dict[str, Any]]]] = {
    "arrays": lambda study, empty: (study.folder / "subject", {}),
    "algonauts2023": lambda study, empty: (small_algonauts(empty).root, {}),
    "files": lambda study, empty: (empty, write_lab(empty, "NIfTI, a file per session")),
    "laion_fmri": lambda study, empty: (small_laion(empty).root, {"laion_subject": "sub-01"}),
    "nsd": lambda study, empty: (small_nsd(empty).root, {"sessions_done": DONE}),
}
"""Where each layout finds a data set (made in an empty folder where the study has none), and with which options."""
SOURCES: dict[str, Callable[[Path, Path], object]] = {"folder": copytree, "webdataset": pack_tars, "parquet": pack_parquet}
"""How a folder of pictures becomes what the source reads."""
SCANNED = pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("bytes", pa.int64()), ("digest", pa.string())])


@pytest.mark.parametrize(("seam", "name"), [(seam, name) for seam in SEAMS for name in SEAMS[seam]])
def test_every_registered_name_is_a_class_that_says_what_it_is(seam: str, name: str) -> None:
    found = resolve(seam, name)
    assert isinstance(found, type) and found.__doc__


@pytest.mark.parametrize("seam", sorted(SEAMS))
def test_an_unknown_name_lists_the_known_ones(seam: str) -> None:
    with pytest.raises(ConfigError, match=f"no {seam} is called 'no-such'; known: {sorted(SEAMS[seam])[0]}"):
        resolve(seam, "no-such")


def test_every_registered_one_is_tested_here() -> None:
    assert set(DATASETS) == set(SEAMS["dataset"]) and set(SOURCES) == set(SEAMS["images"])


@pytest.fixture(params=sorted(DATASETS))
def dataset(request: pytest.FixtureRequest, study: TinyStudy, tmp_path: Path) -> SubjectDataset:
    path, options = DATASETS[request.param](study, tmp_path)
    made = make_dataset(SubjectConfig(name="subj01", dataset=request.param, path=str(path), options=options))
    travelled: SubjectDataset = pickle.loads(pickle.dumps(made))
    assert travelled.fingerprint() == made.fingerprint()
    return travelled


@pytest.mark.parametrize("layout", sorted(DATASETS))
def test_an_object_store_without_the_data_set_is_named_with_what_is_wanted(layout: str) -> None:
    config = SubjectConfig(name="subj01", dataset=layout, path="memory://nothing-here/data", options={})
    with pytest.raises(ConfigError, match=r"^no .* at memory://nothing-here/data"):
        make_dataset(config)


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        ("nsd", {"sessions": 3}, r"subject subj01: option sessions is 3, wanted list\[int\] \| None"),
        ("nsd", {"sessions": "1-3"}, r"option sessions is '1-3', wanted list\[int\]"),
        ("nsd", {"memory_mb": "64"}, "option memory_mb is '64', wanted int"),
        ("laion_fmri", {"sessions": [1, "2"]}, r"option sessions is \[1, '2'\], wanted list\[int\]"),
        ("algonauts2023", {"mask": 5}, "option mask is 5, wanted str"),
    ],
)
def test_an_option_of_the_wrong_type_is_named(tmp_path: Path, layout: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_dataset(SubjectConfig(name="subj01", dataset=layout, path=str(tmp_path), options=options))


def test_what_a_layout_says_of_its_files_fits_run_json(dataset: SubjectDataset) -> None:
    if isinstance(dataset, Described):
        json.dumps(dataset.about(), allow_nan=False)
        assert all(isinstance(note, str) and note for note in dataset.notes()), "a sentence each"


def test_a_data_set_fits_together(dataset: SubjectDataset) -> None:
    stimuli, trials, voxels = dataset.stimuli(), dataset.trials(), dataset.voxels()
    assert dataset.subject == "subj01"
    assert [stimuli.schema.field(name).type for name in ("stimulus_id", "uri", "split")] == [pa.string()] * 3
    assert set(stimuli["split"].to_pylist()) <= {"train", "test"}
    assert set(trials["stimulus_id"].to_pylist()) == set(stimuli["stimulus_id"].to_pylist())
    assert len(set(stimuli["stimulus_id"].to_pylist())) == len(stimuli)
    assert trials["trial"].to_pylist() == list(range(len(trials)))
    assert voxels.schema.field("rois").type == pa.list_(pa.string()) and voxels.schema.field("ncsnr").type == pa.float32()
    for session in sorted(set(trials["session"].to_pylist())):
        responses_TV = dataset.read_session(session)
        assert responses_TV.shape == (trials["session"].to_pylist().count(session), len(voxels))
        assert responses_TV.dtype == np.float32
        again_TV = responses_TV.copy()
        responses_TV[:] = 0  # the caller's own
        np.testing.assert_array_equal(dataset.read_session(session), again_TV)
    assert dataset.images().read(stimuli["uri"][0].as_py())
    geometry = dataset.geometry()
    assert geometry is None or {"lh", "rh"} == set(next(iter(geometry.views.values())))


def test_a_grid_says_where_its_voxels_lie(dataset: SubjectDataset) -> None:
    """The files here hold volumes where the layout is one of volumes."""
    places = dataset.voxels()
    grid = dataset.grid() if isinstance(dataset, Gridded) else None
    assert (grid is not None) == (places["i"].null_count == 0)
    if grid is not None:
        assert len(grid.shape) == 3 and grid.affine.shape == (4, 4) and grid.space
        ijk_V3 = np.stack([places[name].to_numpy() for name in "ijk"], axis=1)
        assert (ijk_V3 >= 0).all() and (ijk_V3 < grid.shape).all()
        xyz_V3 = ijk_V3 @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        np.testing.assert_allclose(np.array(places["xyz"].to_pylist()), xyz_V3, atol=1e-3)


@pytest.fixture(params=sorted(SOURCES))
def places(request: pytest.FixtureRequest, study: TinyStudy, tmp_path: Path) -> tuple[str, Path, Path]:
    """A source's name, a place where it finds the study's pictures, and a file of the place."""
    place = tmp_path / "place"
    SOURCES[request.param](study.folder / "pictures", place)
    return request.param, place, min(path for path in place.rglob("*") if path.is_file())


def opened(name: str, place: Path | str) -> ImageSource:
    made: ImageSource = pickle.loads(pickle.dumps(make_images(name, str(place))))
    return made


def scan_all(source: ImageSource) -> tuple[list[dict[str, Any]], list[BadRow]]:
    table, bad = source.scan(source.files()["name"].to_pylist())
    assert table.schema.equals(SCANNED)
    rows: list[dict[str, Any]] = table.to_pylist()
    assert len({row["image_id"] for row in rows}) == len(rows)
    return rows, bad


def test_an_image_source_lists_its_files_in_order(places: tuple[str, Path, Path]) -> None:
    name, place, _ = places
    source = opened(name, place)
    files = source.files()
    assert files.schema.equals(pa.schema([("name", pa.string()), ("bytes", pa.int64())]))
    names = files["name"].to_pylist()
    assert names == sorted(set(names)) and len(names) > 1 and min(files["bytes"].to_pylist()) > 0
    assert files.equals(source.files()) and files.equals(opened(name, place).files())


def test_an_image_source_reads_what_it_has_scanned(places: tuple[str, Path, Path], study: TinyStudy) -> None:
    name, place, _ = places
    source = opened(name, place)
    rows, bad = scan_all(source)
    assert not bad
    pictures = [path.read_bytes() for path in pictures_below(study.folder / "pictures")]
    assert sorted(row["digest"] for row in rows) == sorted(picture_digest(picture) for picture in pictures)
    with ThreadPoolExecutor(4) as threads:
        contents = list(threads.map(source.read, [row["uri"] for row in rows]))
    assert [(len(data), picture_digest(data)) for data in contents] == [(row["bytes"], row["digest"]) for row in rows]
    assert source.read(rows[-1]["uri"]) == contents[-1] and source.read(rows[0]["uri"]) == contents[0]
    with pytest.raises(DataError):
        source.read("../" + rows[0]["uri"])


def test_files_are_scanned_alike_alone_and_together(places: tuple[str, Path, Path]) -> None:
    name, place, _ = places
    source = opened(name, place)
    alone = [row for file in source.files()["name"].to_pylist() for row in source.scan([file])[0].to_pylist()]
    assert alone == scan_all(source)[0]


def test_an_image_source_that_moves_keeps_its_ids(places: tuple[str, Path, Path]) -> None:
    name, place, _ = places
    source = opened(name, place)
    before, fingerprint = scan_all(source), source.fingerprint()
    moved = opened(name, place.rename(place.with_name("elsewhere")))
    assert scan_all(moved) == before and moved.fingerprint() == fingerprint
    by_uri: ImageSource = make_images(name, place.with_name("elsewhere").as_uri())
    assert scan_all(by_uri) == before and by_uri.fingerprint() == fingerprint


def test_a_bad_file_costs_its_rows_only(places: tuple[str, Path, Path]) -> None:
    name, place, file = places
    rows, _ = scan_all(opened(name, place))
    fingerprint = opened(name, place).fingerprint()
    file.write_bytes(b"")
    source = opened(name, place)
    left, bad = scan_all(source)
    # a picture, or the tar's or table's 40 pictures
    assert len(bad) == 1 and len(left) in {len(rows) - 1, len(rows) - 40} and left == rows[len(rows) - len(left) :]
    assert file.name in bad[0].key and bad[0].key.startswith(("image_id=", "file=")) and bad[0].reason
    assert source.fingerprint() != fingerprint


def test_a_file_that_vanishes_after_the_listing_is_a_bad_row(places: tuple[str, Path, Path]) -> None:
    name, place, file = places
    source = opened(name, place)
    names = source.files()["name"].to_pylist()
    file.unlink()
    table, bad = opened(name, place).scan(names)
    assert bad and len(table) > 0 and all(file.name in row.key for row in bad)


def test_a_folder_that_vanishes_is_nobodys_bad_row(places: tuple[str, Path, Path]) -> None:
    """A disk that is not mounted any more must not send every picture to quarantine."""
    name, place, _ = places
    source = opened(name, place)
    names = source.files()["name"].to_pylist()
    place.rename(place.with_name("elsewhere"))
    with pytest.raises(OSError, match="not there any more"):
        source.scan(names)


def test_what_fsspec_reaches_is_scanned_alike(places: tuple[str, Path, Path]) -> None:
    name, place, _ = places
    fsspec.filesystem("memory").put(str(place), f"/conformance-{name}", recursive=True)
    source = opened(name, f"memory://conformance-{name}")
    assert scan_all(source) == scan_all(opened(name, place)) and source.fingerprint() == opened(name, place).fingerprint()
    for row in scan_all(source)[0][::20]:
        assert picture_digest(source.read(row["uri"])) == row["digest"]


def test_nothing_to_find_is_said(places: tuple[str, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        make_images(places[0], str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        make_images(places[0], str(tmp_path / "empty")).files()
