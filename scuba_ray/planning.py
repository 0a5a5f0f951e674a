"""What a run would do, before it does: chunks, rows, bytes, hours and cost of each step, from sizes and from measured rates.

Counts are exact where they depend on nothing that is still to be computed. Bytes are good to a factor of three. Hours are scaled
from rates of one kind of machine (`stages/rates.py`); a step that was never measured has none, and the totals say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from scuba_ray.config import RunConfig
from scuba_ray.pipeline import take
from scuba_ray.protocols import GatherStage, Stage
from scuba_ray.stages.rates import CUDA, Rate, rate_of
from scuba_ray.stages.study import Study, located, open_study
from scuba_ray.tables.planned import PlannedStep, PlannedSteps
from scuba_ray.tables.progress import AtMost, Result
from scuba_ray.tables.schemas import KEYS, PARTITIONS, schema_for
from scuba_ray.tables.store import RunFolder

_ROW = {"captions": 80, "scores": 18, "bands": 45, "requests": 80, "descriptions": 25}
"""Bytes of a row on the disk, compressed, of tables that are mostly text; vectors are counted one by one."""
_CANDIDATE = 8
"""The same for a sentence that was not chosen, and its score."""
_OTHER = 20
"""The same for a row of other tables, beside its vectors."""
_COLUMN = 250
"""Bytes of every column of every part: headers, footer, statistics."""
_METHODS = 15
"""Rows of `scores` a voxel: its captions and the controls."""
UNSIZED = {"images", "syntheses"}
"""Tables whose bytes are those of pictures that a model has still to make."""


@dataclass(frozen=True)
class Estimate:
    """One step, with what it costs; None where that was not measured or cannot be known yet."""

    planned: PlannedStep
    bytes: int | None
    cpu_hours: float | None
    gpu_hours: float | None
    source: str
    """Of the rate."""

    @property
    def to_do(self) -> int | None:
        """Chunks that are to be computed."""
        return None if self.planned.there is None else self.planned.chunks - self.planned.there


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    steps: tuple[Estimate, ...]

    @property
    def complete(self) -> bool:
        """Whether there is nothing to do."""
        return all(step.to_do == 0 for step in self.steps)

    @property
    def unmeasured(self) -> list[str]:
        """Steps with something to do and no known hours, which the totals lack."""
        return list(dict.fromkeys(one.planned.step for one in self.steps if one.to_do != 0 and one.cpu_hours is None))

    def totals(self, price_cpu_hour: float = 0.0, price_gpu_hour: float = 0.0) -> dict[str, float]:
        """Chunks to do and bytes of all tables as far as known, hours as far as measured, and their price."""
        cpu, gpu = (sum(getattr(one, name) or 0.0 for one in self.steps) for name in ("cpu_hours", "gpu_hours"))
        sizes = sum(one.bytes or 0 for one in self.steps if not one.planned.scratch)
        cost = cpu * price_cpu_hour + gpu * price_gpu_hour
        chunks = sum(one.to_do or 0 for one in self.steps)
        return {"chunks": chunks, "bytes": sizes, "cpu_hours": cpu, "gpu_hours": gpu, "cost": cost}


def plan(config: RunConfig) -> Plan:
    """Open everything `config` names, as a run would, and look what there is to do. Computes and writes nothing in `config.out`.

    Raises
    ------
    ConfigError, DataError
        As a run would, before it computes anything.
    """
    study = open_study(located(config))
    config, folder = study.chosen.config, RunFolder(study.chosen.config.out)
    folder.check_claim(study.identity)
    sizes = _Sizes(config, study)
    with PlannedSteps(folder, sizes.written) as steps:
        sizes.results = steps.results
        take(config, study, folder, steps)
    return Plan(tuple(sizes.estimate(one) for one in steps.plan))


class _Sizes:
    """What a study's sizes say of its steps."""

    def __init__(self, config: RunConfig, study: Study) -> None:
        self.config, self.study = config, study
        self.results: list[Result] = []
        """Of the steps looked up so far."""

    @property
    def bank(self) -> int:
        """Pictures that are projected on."""
        return self.study.bank.rows if self.study.bank else sum(one.rows for one in self.results if one.table == "bank")

    def written(self, stage: Stage | GatherStage, rows: int) -> int:
        """Rows that a stage is expected to write of so many."""
        voxels = rows // (PARTITIONS + 1)
        if stage.table == "projections":
            return AtMost(rows * (PARTITIONS + 1), stage.name)
        if stage.table == "nearest_pictures":
            every = sum(one.voxels().num_rows for one in self.study.datasets.values())
            every += sum(len(one.voxels) for one in self.study.weights.values())
            return AtMost(min(self.bank, every * int(getattr(stage, "pictures", 1))), stage.name)
        if stage.table == "requests":
            assert self.config.synthesize is not None, "asked of runs that make images"
            return AtMost(self.config.synthesize.budget, stage.name)
        if stage.table in {"pictures", "admitted", "bank", "embeddings", "descriptions"}:
            return AtMost(rows, stage.name)
        known = {"top-image": voxels, "lavca": voxels, "concepts": 3 * voxels, "score": _METHODS * rows}
        if stage.name == "read":
            return rows * self._of(stage)["voxels"]
        return known.get(stage.name, rows)

    def estimate(self, planned: PlannedStep) -> Estimate:
        """Bytes, hours and where the rate is from."""
        size = planned.bytes if planned.bytes is not None else self._bytes(planned)
        left = planned.chunks if planned.there is None else planned.chunks - planned.there
        if not left and planned.there is not None:
            return Estimate(planned, size, 0.0, 0.0, "")
        found = self._rate(planned)
        if found is None:
            return Estimate(planned, size, None, None, "")
        rate, work, cuda = found
        hours = work / rate.per_second / 3600 * (left / planned.chunks)
        engine = self.config.engine
        beside = engine.cpus_per_worker / (engine.gpus_per_worker or 1.0)
        return Estimate(planned, size, hours * beside if cuda else hours, hours if cuda else 0.0, f"{rate.source}: {rate.work}")

    def _rate(self, planned: PlannedStep) -> tuple[Rate, float, bool] | None:
        """A step's rate, its work, and whether it is a GPU's."""
        stage, config = planned.stage, self.config
        models = {one.name: one.model for one in config.backbones}
        model, kind, work = "", planned.step, float(planned.rows)
        if kind == "fit":
            work *= self._of(stage)["stimuli"] * stage.dim
        elif kind == "project":
            work *= self.bank * self.study.reader.dim
        elif kind == "read":
            work = float(self._of(stage)["trials"])
        elif kind in {"encode", "bank"} and getattr(stage.backbone, "name", "") in models:
            model, kind = models[stage.backbone.name], "encode"
        elif kind == "caption":
            model = config.caption.model
        else:
            return None
        rate = rate_of(kind, config.device, phantom=model.startswith("phantom:"))
        return None if rate is None else (rate, work, rate in CUDA.values())

    def _bytes(self, planned: PlannedStep) -> int | None:
        stage, rows = planned.stage, planned.written
        if planned.table in UNSIZED or stage is None or rows is None:
            return None
        if planned.table == "sessions":
            facts = self._of(stage)
            return int(facts["trials"] * facts["voxels"] * 4)
        columns, row = 8, _ROW.get(planned.table, _OTHER)
        if planned.table in KEYS:
            schema = schema_for(planned.table, self._dim(stage))
            columns = len(schema)
            row += sum(field.type.list_size * field.type.value_type.byte_width for field in schema if _is_vector(field.type))
        if planned.table == "responses":
            row += 4 * self._of(stage)["stimuli"]
        if planned.step == "rerank":
            row += _CANDIDATE * self.config.caption.beams * (PARTITIONS + 1 if stage.settings.partitions else 1)
        if planned.table == "projections":
            row += 4 * self.config.project.nearest
        return rows * row + planned.chunks * columns * _COLUMN

    def _dim(self, stage: Any) -> int:
        network = getattr(stage, "backbone", None)
        return int(getattr(stage, "dim", None) or getattr(network, "dim", None) or self.study.reader.dim)

    def _of(self, stage: Any) -> dict[str, int]:
        """Sizes of the subject that a stage reads."""
        dataset = self.study.datasets[stage.subject.name]
        tables = {"voxels": dataset.voxels(), "stimuli": dataset.stimuli(), "trials": dataset.trials()}
        return {name: table.num_rows for name, table in tables.items()}


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))
