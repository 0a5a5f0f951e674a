"""scuba export: a run's maps and captions for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from scuba_ray.cli.finished import finished


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[str, typer.Option(help="Folder to write; an earlier export there is replaced, nothing else is.")],
    subject: Annotated[str | None, typer.Option(help="This subject alone.")] = None,
    what: Annotated[str, typer.Option(help="Which of maps, captions and pycortex, joined by commas.")] = "maps,captions,pycortex",
) -> None:
    """Write GIfTI and NIfTI maps, captions as CSV and arrays for pycortex, as a BIDS derivative."""
    from scuba_ray.report.export import export_run
    from scuba_ray.terminal import say

    folder, config = finished(run)
    wanted = [name.strip() for name in what.split(",") if name.strip()]
    location, notes = export_run(folder, config, out, subject=subject, what=wanted)
    for note in notes:
        say(note, label="note: ", style="bold")
    print(location)
