"""scuba data: what a configuration's data holds, before anything long starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from scuba_ray.data_check import DataCheck

app = typer.Typer(help="Data sets that a configuration names, looked at before a run.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `check` a command of its own: a group with one command would take its place."""


@app.command("check")
def check(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Settings of the run.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change a setting; may be repeated.")
    ] = None,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print what was found.")] = "table",
) -> None:
    """Say what the data holds and everything that is wrong with it, from headers and a sample. Exit code 2: it cannot run."""
    from dataclasses import asdict

    from scuba_ray.config import load_config

    loaded = load_config(config, settings or [])
    from scuba_ray.data_check import check as look  # takes seconds: a wrong setting is told before

    found = look(loaded)
    if form == "json":
        print(json.dumps({"runs": not found.problems, **asdict(found)}, indent=1))
    else:
        print("\n".join(_lines(found)))
    _tell(found)
    if found.problems:
        raise typer.Exit(2)


def _tell(found: DataCheck) -> None:
    """Problems, warnings and notes, on stderr like any error, the worst first."""
    from scuba_ray.terminal import say

    styles = {"problem": "bold red", "warning": "bold yellow", "note": "bold"}
    for state, style in styles.items():
        for remark in found.remarks:
            if remark.state == state:
                say(f"{remark.where}: {remark.text}", label=f"{state}: ", style=style)
    say(f"{len(found.problems)} problems: the run would fail" if found.problems else "nothing prevents the run")


def _lines(found: DataCheck) -> list[str]:
    """Everything found, for people: a block for each subject and part, then what the run needs."""
    lines = []
    for name, facts in [*found.subjects.items(), *found.parts.items()]:
        lines += [name, *_facts(facts), ""]
    if found.estimates:
        memory = {name: _bytes(size) for name, size in found.estimates["memory"].items()}
        disk = {name: _bytes(size) for name, size in found.estimates["disk"].items()}
        disk["together"] = _bytes(sum(found.estimates["disk"].values()))
        times = {name: f"{_time(one['seconds'])} ({one['rate']})" for name, one in found.estimates["seconds"].items()}
        for heading, facts in (("memory of a worker", memory), ("disk", disk), ("time", times)):
            lines += [f"estimate: {heading}", *_facts(facts), ""]
    return lines[:-1]


def _facts(facts: dict[str, Any]) -> list[str]:
    width = max(map(len, facts))
    return [f"  {name:<{width}}  {_said(value)}" for name, value in facts.items()]


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_said(one)}" for name, one in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e3:.1f} kB"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
