"""scuba run: every step of a configuration, or a look at what there is to do."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scuba_ray.cli.options import Address
from scuba_ray.errors import ConfigError, ScubaError

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig
    from scuba_ray.planning import Estimate, Plan


def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="Settings of the run.")],
    out: Annotated[str | None, typer.Option(help="Folder of the run, instead of the configuration's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change a setting; may be repeated.")
    ] = None,
    engine: Annotated[Literal["ray", "local"] | None, typer.Option(help="Instead of the configuration's.")] = None,
    address: Address = None,
    log_format: Annotated[
        Literal["bars", "json"], typer.Option(help="On stderr: progress for people, or a log in JSON.")
    ] = "bars",
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do and what it may cost; do nothing.")] = False,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="How --dry-run prints it.")] = "table",
    price_cpu_hour: Annotated[float, typer.Option(min=0, help="Of one core, for --dry-run.")] = 0.0,
    price_gpu_hour: Annotated[float, typer.Option(min=0, help="Of one GPU, for --dry-run.")] = 0.0,
) -> None:
    """Run every step of a configuration; a run that was interrupted goes on where it stopped."""
    from scuba_ray.config import load_config

    options = {"out": out, "engine.name": engine, "engine.address": address}
    given = [f"{path}={json.dumps(value)}" for path, value in options.items() if value is not None]
    loaded = load_config(config, [*(settings or []), *given])
    if dry:
        from scuba_ray.planning import plan

        _print_plan(plan(loaded), loaded, form, {"price_cpu_hour": price_cpu_hour, "price_gpu_hour": price_gpu_hour})
    elif log_format == "json":
        _run_with_log(loaded)
    else:
        _run_with_bars(loaded)


def _run_with_bars(config: RunConfig) -> None:
    from scuba_ray.pipeline import run as run_steps  # takes seconds: a wrong setting is told before
    from scuba_ray.terminal import Listener, say, tell_warnings

    with Listener() as listen:
        folder = run_steps(config, listen=listen)
    tell_warnings(folder)
    say("every step is complete")
    print(f"{folder.location}/report/index.html")


def _run_with_log(config: RunConfig) -> None:
    """Run with the lines of the log on stderr, and nothing else there: errors are lines, too."""
    from scuba_ray import logs
    from scuba_ray.pipeline import run as run_steps

    with logs.attached(logging.StreamHandler(sys.stderr)):
        try:
            folder = run_steps(config)
        except ScubaError as error:
            code = 2 if isinstance(error, ConfigError) else 1
            logging.getLogger(__name__).error("%s", error)
            raise typer.Exit(code) from error
        except KeyboardInterrupt as stop:
            logging.getLogger(__name__).error("stopped; what was finished is kept: run again to resume")
            raise typer.Exit(130) from stop
    print(f"{folder.location}/report/index.html")


def _print_plan(plan: Plan, config: RunConfig, form: str, prices: dict[str, float]) -> None:
    import pyarrow as pa

    from scuba_ray.report.render import render
    from scuba_ray.terminal import say

    rows, totals = [_row(step) for step in plan.steps], plan.totals(**prices)
    if form == "json":
        said = {"complete": plan.complete, "steps": rows, "totals": totals, "unmeasured": plan.unmeasured}
        print(json.dumps(said, indent=1))
        return
    shown = [
        {name: _cell(name, row) for name in ("step", "unit", "rows", "chunks", "there", "bytes", "cpu_h", "gpu_h")}
        for row in rows
    ]
    print(render(pa.Table.from_pylist(shown), width=None if sys.stdout.isatty() else 150), end="")
    if plan.complete:
        say(f"there is nothing to do: every step is complete in {config.out}")
        return
    cost = f", {totals['cost']:,.2f} in all" if any(prices.values()) else ""
    say(
        f"at least {totals['chunks']:,} chunks are to be computed; tables take about {totals['bytes'] / 1e9:,.3g} GB; "
        f"steps with a rate about {totals['cpu_hours']:,.3g} core hours and {totals['gpu_hours']:,.3g} GPU hours{cost}"
    )
    for source in sorted({step.source for step in plan.steps if step.source}):
        say(f"estimated from {source}; yours will differ")
    if plan.unmeasured:
        say(f"not in the hours, because they were not measured: {', '.join(plan.unmeasured)}")


def _row(step: Estimate) -> dict[str, Any]:
    from scuba_ray.tables.progress import AtMost

    one = step.planned
    return {
        "step": one.step,
        "unit": one.key,
        "table": one.table,
        "rows": int(one.rows),
        "rows_are_a_bound": isinstance(one.rows, AtMost),
        "chunks": one.chunks,
        "there": one.there,
        "unknown_until": one.until if one.there is None else None,
        "rows_written": None if one.written is None else int(one.written),
        "rows_written_are_a_bound": isinstance(one.written, AtMost),
        "bytes": step.bytes,
        "scratch": one.scratch,
        "cpu_h": step.cpu_hours,
        "gpu_h": step.gpu_hours,
        "estimated_from": step.source or None,
    }


def _cell(name: str, row: dict[str, Any]) -> str:
    """A value for people: a bound as such, what nobody knows yet with what it waits for."""
    value, bound = row[name], "<= " if row["rows_are_a_bound"] else ""
    if name == "there" and value is None:
        return f"unknown until {row['unknown_until']}"
    if name == "bytes" and row["scratch"]:
        return f"{value:,} (deleted later)"
    if value is None:
        return "unknown" if name == "bytes" else "not measured"
    if name in {"rows", "chunks"}:
        return f"{bound}{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
