"""scuba analyze: analyses of a run that is complete."""

from __future__ import annotations

from typing import Annotated

import typer

from scuba_ray.cli.finished import finished


def analyze(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run that is complete.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Analyses; all, if none is named.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change a setting of an analysis; may be repeated.")
    ] = None,
) -> None:
    """Complete analyses of a finished run from its tables, with figures and page; nothing else is computed."""
    from scuba_ray.analyzing import analyze as analyze_run
    from scuba_ray.terminal import tell_warnings

    folder, config = finished(run)
    page = analyze_run(folder, config, names or [], settings or [])
    tell_warnings(folder)
    print(page)
