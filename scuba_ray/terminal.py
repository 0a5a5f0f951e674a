"""What people see of a run, on stderr: a bar per step while it works, a paragraph when it fails. Results go to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from scuba_ray.tables.progress import Progress
    from scuba_ray.tables.store import RunFolder


def say(message: str, *, label: str = "", style: str = "") -> None:
    """Print a paragraph for people on stderr, wrapped by the terminal only: a script can search it."""
    Console(stderr=True).print(Text.assemble((label, style), message), soft_wrap=True)


class Listener:
    """Shows how far each step is: bars with rates and time left on a terminal, else a line per finished step."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._first: dict[tuple[str, str], int] = {}

    def __enter__(self) -> Listener:
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def counter(self, step: str, unit: str) -> Callable[[int, int], None]:
        """Return a function that shows how much of something is done: `count(done, total)`."""
        from scuba_ray.tables.progress import Progress

        began, self._first[step, unit] = time.perf_counter(), 0
        return lambda done, total: self(Progress(step, unit, done, total, done, total, 0, time.perf_counter() - began, 0))

    def __call__(self, progress: Progress) -> None:
        """Take note of where a step stands."""
        step = (progress.step, progress.key)
        rows_before = self._first.setdefault(step, progress.rows_done)
        rate = (progress.rows_done - rows_before) / progress.seconds if progress.seconds > 0 else 0.0
        bad = f"{progress.bad_rows:,} quarantined" if progress.bad_rows else ""
        if self._bars is not None:
            if step not in self._tasks:
                text = " ".join(step)
                self._tasks[step] = self._bars.add_task(text, total=progress.rows_total, completed=rows_before, rate="", bad="")
            speed = f"{rate:,.0f}/s" if rate else ""
            self._bars.update(self._tasks[step], completed=progress.rows_done, rate=speed, bad=bad)
        elif progress.chunks_done == progress.chunks_total:
            facts = [f"{progress.rows_total:,} in {progress.seconds:.1f} s", f"{rate:,.0f}/s", bad]
            if progress.resumed:
                facts.insert(1, f"{progress.resumed} of {progress.chunks_total} chunks were there")
            say(f"{progress.step} {progress.key}: {', '.join(fact for fact in facts if fact)}")


def _bars() -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[bad]}", style="yellow"),
        console=Console(stderr=True),
    )


def tell_warnings(folder: RunFolder) -> None:
    """Say what a run or build noted, each once."""
    for warning in folder.read_run_json()["warnings"]:
        say(warning, label="warning: ", style="bold yellow")
