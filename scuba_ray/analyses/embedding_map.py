"""embedding_map: what voxels answer to as colours, the same for the same thing in every subject.

Unit projected embeddings of one subject's voxels that count (`analyses.spoken`) are brought to three components; the first to
99th percentile of each becomes red, green and blue from 0 to 1. The others' embeddings go through the same components and the
same percentiles, so that a colour means the same direction in all of them. Components are turned so that each one's largest
loading is positive: a new run has the same colours. `umap` (where umap-learn is installed) keeps neighbours together better than
`pca`, but its axes and distances mean less, a new seed or version gives other colours, and where one subject's voxels are put
depends a little on the others of that subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scuba_ray.analyses.agreement_measures import Floats, unit
from scuba_ray.analyses.spoken import CAPTIONS, VOXELS, Spoken, spoken
from scuba_ray.config import RunConfig
from scuba_ray.errors import ConfigError
from scuba_ray.tables.columns import matrix
from scuba_ray.tables.schemas import WHOLE_BANK

COMPONENTS = ("c1", "c2", "c3")
COLOURS = ("r", "g", "b")
LEAST = 10
"""Voxels below which no map is fitted: three components of fewer are chance."""
NEIGHBOURS = 15
"""Of a voxel that umap keeps near it (its default), fewer where there are fewer voxels."""

EMBEDDING_MAP = pa.schema(
    [
        ("subject", pa.string()),
        ("backbone", pa.string()),
        ("voxel_id", pa.int64()),
        *((name, pa.float64()) for name in (*COLOURS, *COMPONENTS)),
        ("method", pa.string()),
        ("fitted_on", pa.string()),
        ("explained", pa.float64()),
        ("selection", pa.string()),
        ("note", pa.string()),
    ]
)
"""One row per voxel that counts; a subject without one has a row with a note. `explained` is the share of the variance of the
fitted subject's unit embeddings that the three components have; null for umap."""

Apply = Callable[[Floats], Floats]


class EmbeddingMap:
    """Colours of projected embeddings.

    Raises
    ------
    ConfigError
        If `fit_on` is no subject of the run, or umap-learn is wanted and not installed.
    """

    name = "embedding_map"
    version = 1
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "captions": CAPTIONS,
        "voxels": VOXELS,
        "projections": ("subject", "backbone", "voxel_id", "partition", "embedding"),
    }

    def __init__(self, config: RunConfig) -> None:
        self._settings, self._seed = config.embedding_map, config.seed
        names = [subject.name for subject in config.subjects]
        self._fit_on = self._settings.fit_on if self._settings.fit_on is not None else names[0]
        if self._fit_on not in names:
            raise ConfigError(f"embedding_map.fit_on is {self._fit_on!r}; the subjects are {', '.join(names)}")
        self._learn = _version_of_umap() if self._settings.method == "umap" else {}

    def fingerprint(self) -> Mapping[str, Any]:
        """Method, subject, and of umap the seed and the version."""
        return {"method": self._settings.method, "fit_on": self._fit_on, "seed": self._seed, **self._learn}

    def run(self, tables: Mapping[str, pa.Table]) -> pa.Table:
        """One row per subject and voxel; see `EMBEDDING_MAP`."""
        everyone = spoken(tables)
        rows: list[dict[str, Any]] = []
        for backbone in sorted({one.backbone for one in everyone}):
            mine = [one for one in everyone if one.backbone == backbone]
            rows += self._rows(mine, {one.subject: _embeddings(one, tables["projections"]) for one in mine})
        return pa.Table.from_pylist(rows, schema=EMBEDDING_MAP)

    def _rows(self, subjects: Sequence[Spoken], unit_of: Mapping[str, Floats]) -> Iterator[dict[str, Any]]:
        fitted_VD = unit_of.get(self._fit_on, np.empty((0, 0)))
        how: dict[str, Any] = {"method": self._settings.method, "fitted_on": self._fit_on}
        if len(fitted_VD) < LEAST:
            why = f"no map: {self._fit_on} has {len(fitted_VD)} voxels that count, and {LEAST} are needed"
            yield from ({**one.key, **how, "note": why} for one in subjects)
            return
        apply, explained = fit_pca(fitted_VD) if self._settings.method == "pca" else fit_umap(fitted_VD, self._seed)
        low_3, high_3 = np.percentile(apply(fitted_VD), [1, 99], axis=0)
        for one in subjects:
            if not one.voxel_ids:
                yield {**one.key, **how, "note": one.note(0, "")}
                continue
            place_V3 = apply(unit_of[one.subject])
            colour_V3 = ((place_V3 - low_3) / np.where(high_3 > low_3, high_3 - low_3, 1)).clip(0, 1)
            for voxel, place, colour in zip(one.voxel_ids, place_V3.tolist(), colour_V3.tolist(), strict=True):
                figures = dict(zip((*COMPONENTS, *COLOURS), (*place, *colour), strict=True))
                yield {**one.key, **how, "voxel_id": voxel, **figures, "explained": explained}


def fit_pca(unit_VD: Floats) -> tuple[Apply, float]:
    """A function to three principal components (V, 3), and the share of variance that they explain."""
    mean_D = unit_VD.mean(0)
    _, singular, loading_CD = np.linalg.svd(unit_VD - mean_D, full_matrices=False)
    largest = np.abs(loading_CD[:3]).argmax(1)
    turned_3D = loading_CD[:3] * np.sign(loading_CD[np.arange(3), largest])[:, None]
    total = float((singular**2).sum())
    return lambda rows_VD: (rows_VD - mean_D) @ turned_3D.T, float((singular[:3] ** 2).sum()) / total if total else 0.0


def fit_umap(unit_VD: Floats, seed: int) -> tuple[Apply, None]:
    """A function to three UMAP components (V, 3). One thread: with a seed umap-learn takes no more."""
    near = min(NEIGHBOURS, len(unit_VD) - 1)
    learner = import_module("umap").UMAP(n_components=3, metric="cosine", n_neighbors=near, random_state=seed, n_jobs=1)
    fitted = learner.fit(unit_VD)
    return lambda rows_VD: fitted.transform(rows_VD).astype(np.float64), None


def _version_of_umap() -> dict[str, str]:
    """By its name in the package index: another package there also gives a module `umap`."""
    try:
        return {"umap-learn": version("umap-learn")}
    except PackageNotFoundError as error:
        raise ConfigError("embedding_map.method is umap, and umap-learn is not installed: install it, or use pca") from error


def _embeddings(one: Spoken, projections: pa.Table) -> npt.NDArray[np.float64]:
    """Unit projected embeddings of the voxels that count, (V, D)."""
    mine = pc.and_(pc.equal(projections["subject"], one.subject), pc.equal(projections["backbone"], one.backbone))
    own = projections.filter(pc.and_(mine, pc.equal(projections["partition"], WHOLE_BANK)))
    own = own.take(pc.index_in(pa.array(one.voxel_ids, pa.int64()), own["voxel_id"].combine_chunks()))
    return unit(matrix(own["embedding"]).astype(np.float64))
