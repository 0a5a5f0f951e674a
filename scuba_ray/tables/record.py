"""What `run.json` says: whose settings made the folder, what each step took, what is begun and not finished, what to know of it.

It is written after every step, so a run that is killed has told how far it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from scuba_ray.errors import DataError
from scuba_ray.tables import files
from scuba_ray.tables.progress import Taken
from scuba_ray.tables.store import RunFolder, Unit

BEGUN = "begun"
"""In `run.json`: fingerprints of the units (`table key`) that have been begun and not finished. Their parts are resumed."""


class RunRecord:
    """The record of one call of a run or build, and of the calls before it as far as it goes on with their steps."""

    def __init__(self, run: RunFolder, about: Mapping[str, Any]) -> None:
        self.run = run
        self.about = dict(about)
        before = _before(run)
        self._earlier: dict[str, dict[str, Any]] = before.get("steps", {})
        self._begun: dict[str, str] = before.get(BEGUN, {})
        self._steps: dict[str, dict[str, Any]] = {}
        self.warnings: list[str] = []
        self.differences: list[str] = []
        """Of what nodes run; kept with each step that was computed there."""

    def begin(self, unit: Unit) -> None:
        """Say that chunks of a unit are about to be computed."""
        self._begun[f"{unit.table} {unit.key}"] = unit.fingerprint
        self.save()

    def done(self, unit: Unit, made_of: str, taken: Taken, bad_rows: Callable[[], int]) -> None:
        """Remember what a step took; one that computed nothing keeps the record of the run that did, and counts nothing."""
        self._begun.pop(f"{unit.table} {unit.key}", None)
        name = f"{unit.step} {unit.key}"
        earlier = self._earlier.get(name, {})
        if taken.computed_chunks == 0 and earlier.get("fingerprint") == unit.fingerprint:
            self._steps[name] = {**earlier, "computed_chunks": 0}
        else:
            made = {"table": unit.table, "fingerprint": unit.fingerprint, "result": made_of, "bad_rows": bad_rows()}
            there = {"differences": self.differences} if self.differences else {}
            self._steps[name] = {**made, **asdict(taken), **there}
        self.save()

    def file(self, name: str, made_of: str) -> str | None:
        """Where the file is that the same inputs made before; None if they did not, or it is gone."""
        earlier = self._earlier.get(name, {})
        folder, _, file = str(earlier.get("file", "")).rpartition("/")
        if earlier.get("fingerprint") != made_of or file not in files.names(self.run.location, folder):
            return None
        self._steps[name] = earlier
        self.save()
        return str(earlier["file"])

    def file_made(self, name: str, made_of: str, file: str, seconds: float) -> None:
        """Remember a file of the run."""
        self._steps[name] = {"file": file, "fingerprint": made_of, "seconds": round(seconds, 3)}
        self.save()

    def discarded(self, step: str, table: str, key: str) -> None:
        """A table that was made for the next step only is deleted; what it took stays on record."""
        self._begun.pop(f"{table} {key}", None)
        name = f"{step} {key}"
        if name not in self._steps and name in self._earlier:
            self._steps[name] = {**self._earlier[name], "computed_chunks": 0}

    def save(self) -> None:
        """Write `run.json` as of now, with the steps of the run before that this one has not come to."""
        steps = {**self._earlier, **self._steps}
        self.run.write_run_json({**self.about, "warnings": self.warnings, BEGUN: self._begun, "steps": steps})

    def close(self, *, with_earlier: bool) -> None:
        """Write `run.json` as complete, with this run's steps only unless `with_earlier`.

        What is still begun is of units that this configuration does not name: another one may resume them.
        """
        steps = {**self._earlier, **self._steps} if with_earlier else self._steps
        begun = {BEGUN: self._begun} if self._begun else {}
        self.run.write_run_json({**self.about, "warnings": self.warnings, **begun, "steps": steps, "complete": True})


def _before(run: RunFolder) -> dict[str, Any]:
    """`run.json` of the run before. What is used of it are timings, so a damaged file is no more than a loss."""
    try:
        return run.read_run_json()
    except DataError:
        return {}
