"""One study on both engines, by either way to fit: the same tables. A faster look at it is in `tests/actors/test_metrics.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scuba_ray import methods
from scuba_ray.pipeline import run
from tests.study import TABLES, TinyStudy, assert_equal_tables


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ridge", "sgd"])
def test_local_and_ray_give_equal_tables(study: TinyStudy, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "PREPARED_HERE", -1)  # small as it is, prepare it on the engine
    fit = {"method": method, "chunk": 5, "permutations": 50, "folds": 3, "alphas": 5, "epochs": 2}
    (study.folder / "pictures" / "notes.png").write_bytes(b"no picture")
    try:
        local = run(study.config(out=str(tmp_path / "local"), fit=fit))
        ray = run(study.config(out=str(tmp_path / "ray"), fit=fit, engine={"name": "ray", "max_workers": 2}))
    finally:
        (study.folder / "pictures" / "notes.png").unlink()
    assert_equal_tables(local, ray, (*TABLES, "bands"))
    assert local.quarantine().equals(ray.quarantine()) and len(ray.quarantine()) == 1
    names = [
        sorted(str(path.relative_to(run.location)) for path in Path(run.location).glob("*/*.parquet")) for run in (local, ray)
    ]
    assert names[0] == names[1], "engine and worker counts are no part of a fingerprint"
