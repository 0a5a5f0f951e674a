from __future__ import annotations

import pyarrow as pa
import pytest

from scuba_ray.analyses.clusters import CLUSTERS
from scuba_ray.analyses.comparison import COMPARISON
from scuba_ray.analyses.embedding_map import EMBEDDING_MAP
from scuba_ray.analyses.person import PERSON
from scuba_ray.analyses.selectivity import SELECTIVITY
from scuba_ray.analyses.support import SUPPORT
from scuba_ray.tables.schemas import CAPTIONS
from tests.report.analysed import write_analyses
from tests.report.images import write_images
from tests.report.synthetic import Written, finish, write_run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A finished run of 60 voxels, read by all tests here."""
    return write_run(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="session")
def evidenced(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run with two concepts and a LaVCa caption of voxel 102, nouns held against pictures, and methods side by side."""
    written = write_run(tmp_path_factory.mktemp("evidenced"), voxels=20)
    run = written.run
    voxels = {"subject": "subj01", "backbone": "tiny", "voxel_id": 102}
    whole = {**voxels, "partition": -1}
    concepts = [
        {**whole, "method": "brainscuba", "rank": rank, "caption": text, "logprob": -0.25, "share": share}
        for rank, text, share in ((1, "a dog", 0.75), (2, "a boat", 0.25))
    ]
    lavca = [{**whole, "method": "lavca", "rank": 0, "caption": "A photo of dog and fog."}]
    nouns = [("lavca", 0, "dog", True), ("lavca", 0, "fog", False), ("brainscuba", 2, "boat", False), ("lavca", 0, "sea", None)]
    judged = [{**voxels, "method": method, "rank": rank, "noun": noun, "supported": known} for method, rank, noun, known in nouns]
    elsewhere = [{**row, "voxel_id": one["voxel_id"]} for row in judged for one in _below_ceiling(written)]
    compared = {"subject": "subj01", "backbone": "tiny", "voxels": 9, "heldout_r": 0.125, "low": -0.25, "high": 0.5}
    methods = [
        {**compared, "roi": roi, "judge": judge, "method": method, "minus_within_roi": 0.1, "low_minus_within_roi": 0.05,
         "high_minus_within_roi": 0.15}
        for roi in ("all voxels", "nowhere") for judge in ("own", "independent") for method in ("lavca", "shuffled-within-roi")
    ]  # fmt: skip
    with run.lock():
        finish(run, "captions", "subj01/tiny/concepts", pa.Table.from_pylist(concepts, schema=CAPTIONS))
        finish(run, "captions", "subj01/tiny/lavca", pa.Table.from_pylist(lavca, schema=CAPTIONS))
        finish(run, "analyses/support", "run", pa.Table.from_pylist([*judged, *elsewhere], schema=SUPPORT))
        finish(run, "analyses/comparison", "run", pa.Table.from_pylist(methods, schema=COMPARISON))
    return written


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run whose analyses count voxels 105 and 107; voxel 105 is in the second part of two."""
    written = write_run(tmp_path_factory.mktemp("analysed"), voxels=20)
    own = {"subject": "subj01", "backbone": "tiny"}
    voxel = {**own, "level": "voxel", "voxel_id": 105}
    person = [{**own, "level": "roi", "roi": "faces", "person_share": 0.5}, {**voxel, "person_share": 0.6, "captions": 5}]
    person.append({**voxel, "voxel_id": 107, "person_share": 0.2, "captions": 5})
    measures = [("caption_agreement", "share of nouns", 0.25), ("n_eff", "images", None)]
    selectivity = [{**voxel, "measure": name, "unit": unit, "value": value} for name, unit, value in measures]
    part = {**own, "roi": "faces", "parts": 2, "cosine": 0.75}
    clusters = [
        {**part, "level": "part", "part": number, "nouns": nouns} for number, nouns in enumerate((["man"], ["woman", "hat"]))
    ]
    clusters.append({**part, "level": "voxel", "part": 1, "voxel_id": 105})
    colours = [{**own, "voxel_id": 105, "r": 1.0, "g": 0.5, "b": 0.0, "method": "pca", "fitted_on": "subj01"}]
    tables = {"person": (person, PERSON), "selectivity": (selectivity, SELECTIVITY), "clusters": (clusters, CLUSTERS)}
    with written.run.lock():
        for name, (rows, schema) in {**tables, "embedding_map": (colours, EMBEDDING_MAP)}.items():
            finish(written.run, f"analyses/{name}", "run", pa.Table.from_pylist(rows, schema=schema))
    return written


@pytest.fixture(scope="session")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run with nine images of each target and method."""
    written = write_run(tmp_path_factory.mktemp("imaged"), voxels=20)
    write_images(written, images=9)
    return written


@pytest.fixture(scope="session")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run whose region faces is in two parts, with images of it and of both."""
    written = write_run(tmp_path_factory.mktemp("parted"), voxels=20)
    write_analyses(written)
    write_images(written, ("faces",), parts=("faces part 1", "faces part 2"))
    return written


def _below_ceiling(written: Written) -> list[dict[str, int]]:
    voxels: list[dict[str, int]] = written.run.read("voxels", columns=["voxel_id", "noise_ceiling"]).to_pylist()
    return [row for row in voxels if row["noise_ceiling"] < 0.3]
