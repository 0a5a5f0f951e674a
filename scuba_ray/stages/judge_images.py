"""judge: what was made, seen by networks with encoding models, beside the natural pictures that drove the same voxels most.

METHOD section 5: pictures are judged by the captioned backbone, and by an independent one that had no part in making them.
Natural references are the subject's own stimuli, ranked by the *measured* mean response of a target's voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from scuba_ray.config import SubjectConfig, SynthesizeConfig
from scuba_ray.core.probe import falling_ranks, percentiles
from scuba_ray.core.vectors import unit_and_norm
from scuba_ray.datasets import make_dataset
from scuba_ray.phantom.probe import prompts_of
from scuba_ray.protocols import Backbone, BadRow, Chunk, Resources, StageOutput
from scuba_ray.stages.divisions import region_of_part
from scuba_ray.stages.judging import MeanModels, View, category_of, mean_models, open_view
from scuba_ray.stages.natural_references import measured_means, top_stimuli
from scuba_ray.tables.columns import numbers, table_of
from scuba_ray.tables.image_schemas import IMAGES, SYNTHESES
from scuba_ray.tables.schemas import KEYS
from scuba_ray.tables.store import RunFolder

Values = npt.NDArray[np.float64] | None
"""Numbers of some pictures; None where the network that would give them has no encoding models."""
Names = npt.NDArray[np.object_]
_PASSED_ON = ("method", "sample", "prompt", "noun", "seed", "png", "seconds", "batch", "truncated")
"""Columns of a picture that its judges leave as they are."""


def targets_of(run: RunFolder, key: str) -> pa.Table:
    """The different targets of a finished unit of `requests`, in order: columns target, kind, voxels."""
    requests = run.read("requests", key=key, columns=["target", "kind", "voxels"])
    _, first_T = np.unique(np.array(requests["target"].to_pylist(), dtype=object), return_index=True)
    return requests.take(pa.array(np.sort(first_T)))


@dataclass(frozen=True, kw_only=True)
class JudgeImages:
    """All pictures of one subject, judged; its rows are targets.

    A voxel stands for a target in an encoding model's mean if it is fitted: by the captioned backbone, and for
    `predicted_independent` by the judge too. A subject whose weights were fitted elsewhere has no stimuli (no natural rows, no
    percentiles) and no independent model (a judge still says what its pictures show). Stimuli that a backbone could not embed are
    no references.

    Memory: S * D * 12 bytes of stimuli and T * D * 8 bytes of targets a network, the PNG files of the chunk's targets, and while
    responses are read `BLOCK` voxels of all stimuli.
    """

    subject: SubjectConfig
    backbone: str
    """The captioned backbone."""
    network: Backbone
    judge: Backbone | None
    """The independent one; its columns are null without."""
    syntheses: tuple[str, ...]
    """Units of the table `syntheses` that are judged."""
    run: RunFolder
    settings: SynthesizeConfig
    resources: Resources
    device: str = "cpu"

    name = "judge"
    version = 1
    table = "images"
    input_columns = ("target", "kind", "voxels", "place")
    input_name = "table requests"

    @property
    def _key(self) -> str:
        return f"{self.subject.name}/{self.backbone}"

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "networks": [one and [one.name, one.fingerprint] for one in (self.network, self.judge)],
            "prompts": [[category, *texts] for category, texts in prompts_of(self.settings.probe).items()],
            "category_of": self.settings.probe.category_of,
        }

    def setup(self) -> None:
        _ = self._views, self._rows_of

    # ------------------------------------------------------------------------------------------ per worker, once

    @cached_property
    def _targets(self) -> pa.Table:
        targets = targets_of(self.run, self._key)
        return targets.append_column("place", pa.array(np.arange(len(targets))))

    @cached_property
    def _own_models(self) -> MeanModels:
        voxels = [np.array(ids, np.int64) for ids in self._targets["voxels"].to_pylist()]
        return mean_models(self.run, self._key, voxels, self.device)

    @cached_property
    def _views(self) -> tuple[View, ...]:
        """How the captioned backbone sees, and how the judge does, if there is one. Both know the same stimuli."""
        networks = [self.network] if self.judge is None else [self.network, self.judge]
        keys = [f"{self.subject.name}/{one.name}" for one in networks]
        models: list[MeanModels | None] = [self._own_models, None]
        natural: list[pa.Table | None] = [None, None]
        if self.subject.weights is None:
            if self.judge is not None:
                models[1] = mean_models(self.run, keys[1], self._own_models.voxels, self.device)
            natural = _common([self.run.read("embeddings", key=key, columns=["stimulus_id", "embedding"]) for key in keys])
        how = (self.device, self.settings.probe)
        return tuple(open_view(*one, *how) for one in zip(networks, models, natural, strict=False))

    @cached_property
    def _stimuli(self) -> npt.NDArray[np.int64]:
        """Rows, in the data set's table of stimuli, of those that the views know."""
        stimuli = make_dataset(self.subject).stimuli()["stimulus_id"].combine_chunks()
        rows_S: npt.NDArray[np.int64] = pc.index_in(self._views[0].natural[0], value_set=stimuli).to_numpy().astype(np.int64)
        return rows_S

    @cached_property
    def _rows_of(self) -> dict[str, dict[str, list[int]]]:
        """Where the pictures of each target lie: their rows in each unit of the table `syntheses`."""
        found: dict[str, dict[str, list[int]]] = {}
        for key in self.syntheses:
            for row, target in enumerate(self.run.read("syntheses", key=key, columns=["target"])["target"].to_pylist()):
                found.setdefault(target, {}).setdefault(key, []).append(row)
        return found

    @cached_property
    def _natural_categories(self) -> list[tuple[Names, Names]]:
        """What each view says of the stimuli."""
        return [view.classify(view.natural[1]) for view in self._views]

    @cached_property
    def _rois_of(self) -> dict[int, list[str]]:
        """Regions of the voxels that are targets themselves."""
        single = self._targets.filter(pc.equal(self._targets["kind"], "voxel"))["voxels"]
        voxels = self.run.read("voxels", key=self._key, columns=["voxel_id", "rois"])
        voxels = voxels.filter(pc.is_in(voxels["voxel_id"], value_set=pc.list_flatten(single)))
        return {voxel: rois or [] for voxel, rois in zip(*(voxels[n].to_pylist() for n in ("voxel_id", "rois")), strict=True)}

    # ------------------------------------------------------------------------------------------ per chunk of targets

    def read(self, chunk: Chunk) -> pa.Table:
        return self._targets.slice(chunk.start, chunk.stop - chunk.start)

    def __call__(self, rows: pa.Table) -> StageOutput:
        pictures, units, bad = self._embedded(self._pictures(rows["target"].to_pylist()))
        measured_TS: Sequence[Values] = [None] * len(rows)
        if self.subject.weights is None:
            voxels = [self._own_models.voxels[place] for place in rows["place"].to_pylist()]
            measured_TS = list(measured_means(self.run, self.subject.name, voxels)[:, self._stimuli])
        tables = [IMAGES.empty_table()]
        for row, measured_S in zip(rows.to_pylist(), measured_TS, strict=True):
            if not len(self._own_models.voxels[row["place"]]):
                reason = f"none of its {len(row['voxels'])} voxels has weights on {self.backbone}"
                bad.append(BadRow(f"subject={self.subject.name}, backbone={self.backbone}, target={row['target']}", reason))
                continue
            mine_N = np.flatnonzero(pc.equal(pictures["target"], row["target"]).to_numpy())
            made = [unit_ND[torch.from_numpy(mine_N).to(unit_ND.device)] for unit_ND in units]
            tables += self._judged(row, pictures.take(pa.array(mine_N)), made, measured_S)
        return StageOutput(pa.concat_tables(tables), tuple(bad))

    def _pictures(self, targets: Sequence[str]) -> pa.Table:
        """The pictures of some targets, method by method; only the parts they lie in are opened."""
        kept = [SYNTHESES.empty_table()]
        for target in targets:
            for key, rows in self._rows_of.get(target, {}).items():
                some = self.run.slice("syntheses", key, rows[0], rows[-1] + 1)
                kept.append(some.take(pa.array(np.array(rows) - rows[0])))
        return pa.concat_tables(kept)

    def _embedded(self, pictures: pa.Table) -> tuple[pa.Table, list[Tensor], list[BadRow]]:
        """Pictures with their unit embeddings (N, D) by each view, and those that cannot be read."""
        pngs = pictures["png"].to_pylist()
        embedded = [view.embed(pngs) for view in self._views]
        reasons = {one.row: one.reason for of_view in embedded for one in of_view.refused}
        bad = []
        for row, reason in sorted(reasons.items()):
            (of,) = pictures.slice(row, 1).select(KEYS["images"]).to_pylist()
            bad.append(BadRow(", ".join(f"{name}={value}" for name, value in of.items()), reason))
        keep_N = np.array([row for row in range(len(pngs)) if row not in reasons], np.int64)
        halves = [of_view.half_ND[np.searchsorted(of_view.keep_N, keep_N)] for of_view in embedded]
        units = [unit_and_norm(torch.from_numpy(half_ND).to(self.device))[0] for half_ND in halves]
        return pictures.take(pa.array(keep_N)), units, bad

    def _judged(self, row: Mapping[str, Any], pictures: pa.Table, units: Sequence[Tensor], measured_S: Values) -> list[pa.Table]:
        """Rows of one target: its pictures, a method after the other, and its natural references."""
        place, views = row["place"], self._views
        rois = self._rois_of.get(row["voxels"][0], []) if row["kind"] == "voxel" else []
        if row["kind"] == "part" and (roi := region_of_part(row["target"])):
            rois = [roi]
        about = {
            "subject": self.subject.name,
            "backbone": self.backbone,
            "target": row["target"],
            "kind": row["kind"],
            "target_category": category_of(self.settings.probe, row["target"], rois),
        }
        natural = [view.predict(view.natural[1], place) for view in views]
        tables = []
        for method in pc.unique(pictures["method"]).to_pylist():
            mine_N = np.flatnonzero(pc.equal(pictures["method"], method).to_numpy())
            seen = [unit_ND[torch.from_numpy(mine_N).to(unit_ND.device)] for unit_ND in units]
            predicted = [view.predict(unit_ND, place) for view, unit_ND in zip(views, seen, strict=True)]
            categories = [view.classify(unit_ND) for view, unit_ND in zip(views, seen, strict=True)]
            some = pictures.take(pa.array(mine_N))
            tables.append(_table({**about, **{name: some[name] for name in _PASSED_ON}}, predicted, natural, categories))
        for method, top_N in top_stimuli(measured_S).items() if measured_S is not None else ():
            of_top = {"method": method, "sample": np.arange(len(top_N)), "stimulus_id": views[0].natural[0].take(pa.array(top_N))}
            predicted = [None if value_S is None else value_S[top_N] for value_S in natural]
            categories = [(best_S[top_N], mean_S[top_N]) for best_S, mean_S in self._natural_categories]
            tables.append(_table({**about, **of_top}, predicted, natural, categories))
        return tables


def _common(tables: Sequence[pa.Table]) -> list[pa.Table | None]:
    """Rows of the stimuli that all tables have, in the same order."""
    for other in tables:
        tables = [one.filter(pc.is_in(one["stimulus_id"], value_set=other["stimulus_id"])) for one in tables]
    return [one.sort_by("stimulus_id") for one in tables]


def _table(
    columns: Mapping[str, Any], predicted: Sequence[Values], natural: Sequence[Values], categories: Sequence[tuple[Names, Names]]
) -> pa.Table:
    """Rows of the table `images` of one target and method: what the captioned backbone says, and the judge where there is one."""
    judged: dict[str, Any] = {}
    assert predicted[0] is not None, "a target without models is refused"
    judged["rank"] = falling_ranks(torch.from_numpy(predicted[0])).numpy()
    for suffix, value_N, value_S in zip(("", "_independent"), predicted, natural, strict=False):
        if value_N is None:
            continue
        judged[f"predicted{suffix}"] = numbers(value_N)
        if value_S is not None and len(value_S):
            percentile_N = percentiles(torch.from_numpy(value_N), torch.from_numpy(value_S))
            judged[f"percentile{suffix}"] = numbers(percentile_N.numpy())
            judged[f"natural_predicted{suffix}"] = float(value_S.mean())
    for name, (best_N, mean_N) in zip(("category_own", "category"), categories, strict=False):
        judged[name], judged[f"{name}_mean"] = best_N.tolist(), mean_N.tolist()
    return table_of(IMAGES, {**columns, **judged})
