"""Steps that are looked up instead of taken: what each would read, which of its chunks are there, what it would write.

The pipeline goes through them as through a run, so a plan cannot differ from what a run does. Nothing is computed or written.
Where the number of a step's rows depends on results that are not there, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from scuba_ray.protocols import Analysis, Chunk, Engine, GatherStage, Stage
from scuba_ray.tables import files, manifest
from scuba_ray.tables.fingerprint import fingerprint
from scuba_ray.tables.manifest import UnitEntry
from scuba_ray.tables.naming import ANALYSIS_KEY, analysis_made_of, cut, made_of
from scuba_ray.tables.parts import key_of
from scuba_ray.tables.progress import AtMost, Result, Scratch
from scuba_ray.tables.steps import Facts, Steps
from scuba_ray.tables.store import RunFolder, Unit


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step of one unit."""

    step: str
    key: str
    table: str
    rows: int
    """Of its input; a bound where `until` is given."""
    chunks: int
    there: int | None
    """Chunks that need not be computed; None where nobody can know yet."""
    until: str
    """The step whose results decide what is not known; empty if all is."""
    written: int | None
    """Rows of its table, as expected; None of an analysis, which writes what it finds."""
    stage: Any
    """The stage; None of analyses and of what is only foreseen."""
    bytes: int | None = None
    """Of its table, if it is there."""
    scratch: bool = False
    """Its table is deleted when the next step is complete."""


class PlannedSteps(Steps):
    """`expect(stage, rows)` says how many rows a stage is expected to write: an `AtMost` where that is a bound."""

    dry = True

    def __init__(self, run: RunFolder, expect: Callable[[Stage | GatherStage, int], int]) -> None:
        super().__init__(run, _no_engine, about={})
        self._expect = expect
        self.plan: list[PlannedStep] = []

    def __enter__(self) -> PlannedSteps:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def complete(
        self,
        stage: Stage | GatherStage,
        *,
        key: str,
        rows: int,
        chunk: int,
        inputs: Sequence[str],
        here: bool = False,
        may_be_empty: bool = False,
        scratch: Scratch | None = None,
    ) -> Result:
        """Look up a step; parameters as of `Steps.complete`."""
        made = made_of(stage, inputs, scratch)
        chunks = cut(rows, chunk)
        unit = Unit(self.run.location, stage.name, stage.table, key, fingerprint(made, rows, chunk))
        there, entry = self._there(unit, chunks)
        until = rows.until if isinstance(rows, AtMost) else ""
        if scratch and there < len(chunks):
            self._scratch(scratch, key, inputs)
        if entry is not None and there == len(chunks):
            self._add(unit, stage, rows, len(chunks), there=there, until=until, written=entry.rows, bytes=entry.bytes)
            return self._made(Result(stage.table, key, made, entry.rows, len(chunks)))
        written = self._expect(stage, rows)
        written = AtMost(written, until) if until and not isinstance(written, AtMost) else written
        known = not until or not self._begun(unit)
        self._add(unit, stage, rows, len(chunks), there=there if known else None, until=until, written=written)
        return self._made(Result(stage.table, key, made, written, len(chunks), there=False))

    def analyse(self, analysis: Analysis) -> Result:
        """Look up an analysis."""
        table, made = f"analyses/{analysis.name}", analysis_made_of(analysis, self.results)
        unit = Unit(self.run.location, analysis.name, table, ANALYSIS_KEY, made)
        there, entry = self._there(unit, [Chunk(0, 0, 1)])
        waits = [result.table for result in self.results if result.table in analysis.inputs and not result.there]
        rows, size = (entry.rows, entry.bytes) if entry and there else (None, None)
        until = waits[0] if waits and not there else ""
        self._add(unit, None, 1, 1, there=there, until=until, written=rows, bytes=size)
        return self._made(Result(table, ANALYSIS_KEY, made, rows or 0, there=bool(there)))

    def foresee(self, step: str, table: str, key: str, *, rows: int, chunk: int, until: Result) -> Result:
        """Note a step of which no more is known than a bound of its rows, before `until` is there."""
        bound, chunks = AtMost(rows, until.table), len(cut(rows, chunk))
        how: dict[str, Any] = {"rows": bound, "written": bound, "chunks": chunks, "there": None, "until": until.table}
        self.plan.append(PlannedStep(step=step, key=key, table=table, stage=None, **how))
        return self._made(Result(table, key, until.fingerprint, rows, there=False))

    def once(self, name: str, inputs: Sequence[str], make: Callable[[], str]) -> str:
        """Make no file."""
        return ""

    def caution(self, look: Callable[Facts, Iterable[str]], *args: Facts.args, **kwargs: Facts.kwargs) -> None:
        """Look at no table: it may not be there."""

    def remove(self, table: str, key: str) -> None:
        """Delete nothing."""

    def _scratch(self, scratch: Scratch, key: str, inputs: Sequence[str]) -> None:
        self.complete(scratch.stage, key=key, rows=scratch.rows, chunk=scratch.chunk, inputs=inputs)
        self.results.pop()
        last = self.plan.pop()
        self.plan.append(PlannedStep(**{**vars(last), "scratch": True}))

    def _add(self, unit: Unit, stage: Any, rows: int, chunks: int, **facts: Any) -> None:
        named: dict[str, Any] = {"step": unit.step, "key": unit.key, "table": unit.table, "stage": stage}
        self.plan.append(PlannedStep(**named, rows=rows, chunks=chunks, **facts))

    def _made(self, result: Result) -> Result:
        self.results.append(result)
        return result

    def _there(self, unit: Unit, chunks: Sequence[Chunk]) -> tuple[int, UnitEntry | None]:
        """How many chunks a run would not compute, by names and sizes, and the unit's entry if it is of this generation."""
        entry = manifest.load(self.run.location, unit.table).get(unit.key)
        entry = entry if entry is not None and entry.fingerprint == unit.fingerprint else None
        listed = {part.name: part.bytes for part in entry.parts} if entry else {}
        present = files.sizes(self.run.location, unit.table)
        again = set(self.run.lacking(unit, chunks))
        names = [unit.part_name(chunk) for chunk in chunks if chunk not in again]
        return sum(name in present and present[name] == listed.get(name, present[name]) for name in names), entry

    def _begun(self, unit: Unit) -> bool:
        return any(key_of(name) == unit.key for name in files.names(self.run.location, unit.table))


def _no_engine() -> Engine:
    raise AssertionError("planned steps compute nothing")
