"""The contract of a stage: the columns it was promised, and the table it promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import pyarrow as pa

from scuba_ray.errors import ContractError
from scuba_ray.protocols import GatherStage, Resources, Stage
from scuba_ray.tables.parts import Unit
from scuba_ray.tables.schemas import KEYS, schema_for

AnyStage = TypeVar("AnyStage", Stage, GatherStage)


class BoundTask(Generic[AnyStage]):
    """A stage bound to the unit it fills. Travels pickled."""

    def __init__(self, stage: AnyStage, unit: Unit, run_id: str = "") -> None:
        """Bind `stage` to `unit`, for the call of a run that is known by `run_id`."""
        self.stage: AnyStage = stage
        self.unit = unit
        self._run_id = run_id

    @property
    def name(self) -> str:
        """The stage's name, for messages."""
        return self.stage.name

    @property
    def tags(self) -> Mapping[str, str]:
        """What its metrics are labelled by."""
        return {"step": self.stage.name, "table": self.unit.table, "run": self._run_id}

    @property
    def resources(self) -> Resources:
        """What one worker holds."""
        return self.stage.resources


def check_input(stage: Stage | GatherStage, rows: pa.Table) -> None:
    """Raise ContractError if `rows` lack a column that the stage reads."""
    lacking = [column for column in stage.input_columns if column not in rows.column_names]
    if lacking:
        raise ContractError(
            f"{stage.name} got a table without {', '.join(map(repr, lacking))} (columns: {', '.join(rows.column_names)}); "
            f"written by: {stage.input_name}"
        )


def check_output(stage: Stage | GatherStage, table: pa.Table) -> None:
    """Raise ContractError unless `table` has the schema of the stage's table; tables without one (of analyses) pass."""
    if stage.table not in KEYS:
        return
    wanted = schema_for(stage.table, _dim(table.schema))
    if table.schema.equals(wanted):
        return
    got = {field.name: str(field.type) for field in table.schema}
    want = {field.name: str(field.type) for field in wanted}
    wrong = [f"{name} is {got.get(name, 'absent')}, must be {kind}" for name, kind in want.items() if got.get(name) != kind]
    wrong += [f"{name} does not belong there" for name in got if name not in want]
    raise ContractError(f"{stage.name} made a wrong {stage.table} table: {'; '.join(wrong) or 'columns out of order'}")


def _dim(schema: pa.Schema) -> int:
    """Length of the embedding or weight vectors of a table, 1 where it has none."""
    for name in ("embedding", "weight"):
        if name in schema.names and pa.types.is_fixed_size_list(schema.field(name).type):
            return int(schema.field(name).type.list_size)
    return 1
