"""scuba clean: what a run's folder holds that nothing uses any more."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer


def clean(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run.")],
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, delete nothing.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also finished tables of units that the configuration no longer names.")
    ] = False,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print what was found.")] = "table",
) -> None:
    """Delete what no setting in use has made: parts of other settings, unfinished files, tables made for finished ones."""
    import pyarrow as pa

    from scuba_ray.report.render import render
    from scuba_ray.tables.cleaning import UNNAMED
    from scuba_ray.tables.cleaning import clean as clean_folder
    from scuba_ray.terminal import say

    done = clean_folder(run, everything=everything, dry=dry)
    groups: dict[tuple[str, str], list[int]] = {}
    for one in done.found:
        sums = groups.setdefault((one.table, one.why), [0, 0])
        sums[0] += one.files
        sums[1] += one.bytes
    rows = [
        {"table": table or ".", "what": why, "files": files, "bytes": size, "deleted": not dry and (everything or why != UNNAMED)}
        for (table, why), (files, size) in sorted(groups.items())
    ]
    if form == "json":
        print(json.dumps({"found": rows, "notes": done.notes}, indent=1))
    elif rows:
        print(render(pa.Table.from_pylist(rows)), end="")
    for note in done.notes:
        say(note, label="note: ", style="bold")
    kept = sum(one.bytes for one in done.found if one.why == UNNAMED and not everything)
    wanted = sum(one.bytes for one in done.found) - kept
    say(f"{wanted:,} bytes {'would be' if dry else 'were'} deleted" if wanted else "there is nothing to delete")
    if kept:
        say(f"{kept:,} bytes belong to units that the configuration no longer names; --all deletes them too")
