"""The same thing has the same colour in every subject, whatever else these have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scuba_ray.analyses.embedding_map import EmbeddingMap, fit_pca
from scuba_ray.errors import ConfigError
from tests.analyses.planted import caption_row, voxel_row
from tests.study import TinyStudy

CENTRES = 3 * np.eye(4, 16)


def found_of(**kinds_of: list[int]) -> dict[str, pa.Table]:
    """Subjects with voxels around centres; negative numbers are voxels that are not significant."""
    captions, voxels, projections = [], [], []
    for subject, kinds in kinds_of.items():
        rng = np.random.default_rng(len(subject))
        for voxel, kind in enumerate(kinds):
            captions.append(caption_row(voxel, "a dog.", subject=subject))
            voxels.append({**voxel_row(voxel, ["faces"], q=0.5 if kind < 0 else 0.01), "subject": subject})
            for partition in (-1, 2):
                embedding = CENTRES[abs(kind)] + 0.1 * rng.normal(size=16) if partition < 0 else np.ones(16)
                projections.append(
                    {
                        "subject": subject,
                        "backbone": "b",
                        "voxel_id": voxel,
                        "partition": partition,
                        "embedding": embedding.tolist(),
                    }
                )
    tables = {"captions": captions, "voxels": voxels, "projections": projections[::-1]}
    return {name: pa.Table.from_pylist(rows) for name, rows in tables.items()}


def config(study: TinyStudy, *subjects: str, **settings: Any) -> Any:
    path = study.settings()["subjects"][0]["path"]
    return study.config(subjects=[{"name": name, "path": path} for name in subjects], embedding_map=settings)


def colours(table: pa.Table, subject: str) -> np.ndarray:
    rows = [row for row in table.to_pylist() if row["subject"] == subject]
    return np.array([[row[name] for name in "rgb"] for row in rows])


def test_colours_are_comparable_over_subjects(study: TinyStudy) -> None:
    kinds = {"one": [0, 1, 2, 3] * 10, "other": [3, 0, 1] * 4}
    table = EmbeddingMap(config(study, "one", "other")).run(found_of(**kinds))
    first, second = colours(table, "one"), colours(table, "other")
    assert first.min() >= 0 and first.max() <= 1
    mean = np.stack([first[kind::4].mean(0) for kind in range(4)])
    assert min(np.linalg.norm(mean[a] - mean[b]) for a in range(4) for b in range(a)) > 0.5, "four things, four colours"
    for kind, colour in zip(kinds["other"], second, strict=True):
        assert np.linalg.norm(mean - colour, axis=1).argmin() == kind
    assert set(table["fitted_on"].to_pylist()) == {"one"} and table["explained"][0].as_py() > 0.9
    alone = EmbeddingMap(config(study, "one", "other")).run(found_of(one=kinds["one"], other=[3]))
    np.testing.assert_allclose(colours(alone, "other")[0], second[0], err_msg="other voxels of a subject change no colour")


def test_another_subject_can_be_fitted(study: TinyStudy) -> None:
    found = found_of(one=[0, 1] * 8, other=[2, 3] * 8)
    table = EmbeddingMap(config(study, "one", "other", fit_on="other")).run(found)
    spread = {name: colours(table, name).std(0).max() for name in ("one", "other")}
    assert set(table["fitted_on"].to_pylist()) == {"other"} and spread["other"] > 0.3
    with pytest.raises(ConfigError, match="fit_on is 'nobody'; the subjects are one, other"):
        EmbeddingMap(config(study, "one", "other", fit_on="nobody"))


def test_components_do_not_depend_on_the_order_of_voxels() -> None:
    rows_VD = np.random.default_rng(0).normal(size=(30, 8))
    apply, explained = fit_pca(rows_VD)
    again, _ = fit_pca(rows_VD[::-1])
    np.testing.assert_allclose(apply(rows_VD), again(rows_VD), atol=1e-9)
    assert 3 / 8 < explained < 1 and np.diff(apply(rows_VD).var(0)).max() < 0


def test_too_few_voxels_and_none_are_told(study: TinyStudy) -> None:
    few = EmbeddingMap(config(study, "one", "other")).run(found_of(one=[0, 1, 2], other=[0] * 20)).to_pylist()
    assert [row["voxel_id"] for row in few] == [None, None] and "one has 3 voxels that count, and 10 are needed" in few[0]["note"]
    none = EmbeddingMap(config(study, "one", "other")).run(found_of(one=[0, 1] * 6, other=[-1, -2])).to_pylist()
    assert len(none) == 13 and "no captioned voxel counts" in none[-1]["note"] and none[-1]["r"] is None
    same = EmbeddingMap(config(study, "one")).run({**(found := found_of(one=[0] * 12)), "projections": _alike(found)}).to_pylist()
    assert all(row["r"] == 0 for row in same), "voxels that are all alike have one colour"


def _alike(found: dict[str, pa.Table]) -> pa.Table:
    table = found["projections"]
    return table.set_column(table.column_names.index("embedding"), "embedding", pa.array([[1.0] + [0.0] * 15] * len(table)))


def test_umap_is_told_if_it_is_not_there(study: TinyStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("scuba_ray.analyses.embedding_map.version", missing)
    with pytest.raises(ConfigError, match="umap-learn is not installed"):
        EmbeddingMap(config(study, "one", method="umap"))


@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is optional, and compiles for a minute")
def test_umap_gives_the_same_colours_again_and_of_the_same_thing_in_every_subject(study: TinyStudy) -> None:
    found = found_of(one=[0, 1, 2, 3] * 10, other=[3, 0, 1] * 4)
    umap = EmbeddingMap(config(study, "one", "other", method="umap"))
    assert "umap-learn" in umap.fingerprint()
    table = umap.run(found)
    assert table.equals(umap.run(found)) and table["explained"].null_count == len(table)
    mean = np.stack([colours(table, "one")[kind::4].mean(0) for kind in range(4)])
    for kind, colour in zip([3, 0, 1] * 4, colours(table, "other"), strict=True):
        assert np.linalg.norm(mean - colour, axis=1).argmin() == kind
