"""What data sets, image sources and every name of the registry promise: tables with these columns, and that they travel."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.config import SubjectConfig
from scuba_ray.datasets import make_dataset, make_images
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import ImageSource, SubjectDataset
from scuba_ray.registry import SEAMS, resolve
from tests.study import TinyStudy

DATASETS, SOURCES = {"arrays": "subject"}, {"folder": "pictures"}


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
def dataset(request: pytest.FixtureRequest, study: TinyStudy) -> SubjectDataset:
    path = str(study.folder / DATASETS[request.param])
    made = make_dataset(SubjectConfig(name="subj01", dataset=request.param, path=path))
    travelled: SubjectDataset = pickle.loads(pickle.dumps(made))
    assert travelled.fingerprint() == made.fingerprint()
    return travelled


def test_a_data_set_fits_together(dataset: SubjectDataset) -> None:
    stimuli, trials, voxels = dataset.stimuli(), dataset.trials(), dataset.voxels()
    assert dataset.subject == "subj01"
    assert [stimuli.schema.field(name).type for name in ("stimulus_id", "uri", "split")] == [pa.string()] * 3
    assert set(stimuli["split"].to_pylist()) <= {"train", "test"}
    assert set(trials["stimulus_id"].to_pylist()) <= set(stimuli["stimulus_id"].to_pylist())
    assert voxels.schema.field("rois").type == pa.list_(pa.string()) and voxels.schema.field("ncsnr").type == pa.float32()
    block = dataset.responses(1, 4)
    assert block.shape == (len(trials), 3) and block.dtype == np.float32
    np.testing.assert_array_equal(block, dataset.responses(0, len(voxels))[:, 1:4])
    assert dataset.images().read(stimuli["uri"][0].as_py())
    geometry = dataset.geometry()
    assert geometry is None or {"lh", "rh"} == set(next(iter(geometry.views.values())))


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, study: TinyStudy) -> ImageSource:
    made: ImageSource = pickle.loads(pickle.dumps(make_images(request.param, str(study.folder / SOURCES[request.param]))))
    return made


def test_an_image_source_lists_what_it_reads(source: ImageSource) -> None:
    listing = source.listing()
    assert listing.column_names == ["image_id", "uri", "source"]
    assert len(set(listing["image_id"].to_pylist())) == len(listing) > 0
    assert listing.equals(source.listing()) and source.fingerprint() == source.fingerprint()
    assert len(source.read(listing["uri"][3].as_py())) > 100
