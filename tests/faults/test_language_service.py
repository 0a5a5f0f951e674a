"""A whole run whose language service is down: it finishes with everybody else's captions; the next run has LaVCa's as well."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from scuba_ray.models.language_http import language_counts
from scuba_ray.pipeline import run
from scuba_ray.tables.store import RunFolder
from tests.models.service import content, serving
from tests.study import TinyStudy


def settings(url: str) -> dict[str, Any]:
    endpoint = {"url": url, "model": "m", "pause": 0.01, "retries": 1, "timeout": 2, "concurrency": 2}
    return {"pictures": 6, "keywords": "endpoint", "endpoint": endpoint}


def rows(folder: RunFolder, method: str) -> int:
    captions = folder.read("captions", columns=["method", "partition"])
    return int(pc.sum(pc.and_(pc.equal(captions["method"], method), pc.equal(captions["partition"], -1))).as_py())


def test_the_run_finishes_and_the_next_one_does_what_is_missing(own_study: TinyStudy) -> None:
    concepts = {"pictures": 8}
    with serving() as gone:
        url = gone.url
    folder = run(own_study.config(lavca=settings(url), concepts=concepts, score={}))
    first = folder.read_run_json()
    assert first["complete"] and any("are left to the next run" in warning for warning in first["warnings"])
    assert (rows(folder, "lavca"), folder.quarantine()["step"].to_pylist().count("lavca")) == (0, 10)
    own = rows(folder, "brainscuba")
    assert own >= 20, "10 voxels' own captions, and a row or more for their concepts"
    with serving() as service:
        service.illness = content('{"keywords": ["fox", "bus"]}')  # a random captioner's descriptions have no words in common
        folder = run(own_study.config(lavca=settings(service.url), concepts=concepts, score={}))
        asked = service.requests
        assert 1 <= asked <= 10, "one for each voxel; equal questions are asked once"
        second = folder.read_run_json()
        assert second["complete"] and not any("left to the next run" in warning for warning in second["warnings"])
        assert (rows(folder, "lavca"), rows(folder, "brainscuba")) == (10, own)
        assert "lavca" not in folder.quarantine()["step"].to_pylist()
        computed = {name: step["computed_chunks"] for name, step in second["steps"].items() if "computed_chunks" in step}
        assert computed["caption subj01/tiny"] == computed["concepts subj01/tiny/concepts"] == 0, "nothing else is done again"
        assert second["language"]["asked"] == language_counts(folder.location)["asked"] == asked
        run(own_study.config(lavca=settings(service.url), concepts=concepts, score={}))
        assert service.requests == asked, "nothing is asked twice"
    judged = folder.read("scores", columns=["method"])["method"].to_pylist()
    assert judged.count("lavca") > 0, "what was missing is judged once it is there"
