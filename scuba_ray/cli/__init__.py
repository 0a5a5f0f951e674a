"""The command line: names, options and exit codes; what a command does is imported when it runs.

Exit codes: 0 done; 1 a run that failed, its message saying which step, what was kept and how to resume; 2 a usage or
configuration error; 130 stopped by Ctrl-C. Text for people goes to stderr, results to stdout.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from scuba_ray import __version__
from scuba_ray.cli import analyze, bank, bank_import, captioner, clean, data, export, phantom, run, serve
from scuba_ray.cli.finished import finished
from scuba_ray.cli.options import Address, Bank, EngineName, Images, Seed, Voxels
from scuba_ray.errors import ConfigError, ScubaError


class _Commands(TyperGroup):
    """Turns what a command raises into a paragraph and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        from scuba_ray.terminal import say

        try:
            return super().invoke(ctx)
        except ScubaError as error:
            say(str(error), label="error: ", style="bold red")
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from error
        except KeyboardInterrupt as stop:
            say("stopped; what was finished is kept: run again to resume")
            raise typer.Exit(130) from stop


def _version(wanted: bool) -> None:
    if wanted:
        print(f"scuba {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="scuba",
    cls=_Commands,
    help="A natural-language caption for every voxel of the visual cortex.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(phantom.app, name="phantom")
app.add_typer(bank.app, name="bank")
app.add_typer(data.app, name="data")
bank.app.command("import")(bank_import.import_embeddings)
app.add_typer(captioner.app, name="captioner")
app.command()(serve.serve)
app.command()(run.run)
app.command()(analyze.analyze)
app.command()(clean.clean)
app.command()(export.export)


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Accept options of `scuba` itself."""


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder of the run.")] = "runs/demo",
    engine: EngineName = "ray",
    seed: Seed = 0,
    voxels: Voxels = 2000,
    images: Images = 3000,
    bank: Bank = 20_000,
) -> None:
    """Simulate a subject, caption every voxel, and compare with what was planted."""
    from scuba_ray.demo import closing_words, run_demo
    from scuba_ray.terminal import Listener, tell_warnings

    with Listener() as listen:
        folder = run_demo(
            out,
            engine=engine,
            seed=seed,
            voxels=voxels,
            images=images,
            bank=bank,
            listen=listen,
            drawn=listen.counter("phantom", "pictures"),
        )
    tell_warnings(folder)
    print(closing_words(folder, width=None if sys.stdout.isatty() else 130))


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Folder of a run.")],
    voxel: Annotated[int | None, typer.Option(help="Everything about one voxel.")] = None,
    roi: Annotated[str | None, typer.Option(help="Voxels of this region only.")] = None,
    noun: Annotated[str | None, typer.Option(help="Voxels whose caption names it (in a --roi, if given).")] = None,
    query: Annotated[str | None, typer.Option(help="Rank voxels (of a --roi, a --noun) by how they answer to a text.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Methods and controls side by side, on held-out responses.")] = False,
    about: Annotated[bool, typer.Option("--about", help="What a --roi (or all voxels) is about: nouns, people, parts.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Images made (for a --voxel or --roi), best first.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    form: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="How to print them.")] = "table",
) -> None:
    """Print voxels with region, noise ceiling, R2 and caption, the best predicted first."""
    from scuba_ray.report import show as tables
    from scuba_ray.report.compare import SPARE, WIDTH, comparison_table, for_people
    from scuba_ray.report.image_table import image_table
    from scuba_ray.report.region_table import region_table
    from scuba_ray.report.render import render

    if voxel is not None and (roi, noun, query) != (None,) * 3:
        raise typer.BadParameter("--voxel goes with none of --roi, --noun and --query")
    if compare and (voxel, noun, query) != (None,) * 3:
        raise typer.BadParameter("--compare goes with --roi only")
    if about and (compare or images or (voxel, noun, query) != (None,) * 3):
        raise typer.BadParameter("--about goes with --roi only")
    if images and (compare or query is not None or noun is not None):
        raise typer.BadParameter("--images goes with --voxel or --roi only")
    folder, config = finished(run)
    width = None
    if compare:
        table = comparison_table(folder, roi=roi)
        if form == "table":
            table, width = for_people(table), None if sys.stdout.isatty() else WIDTH
    elif about:
        table = region_table(folder, roi)
    elif images:
        table = image_table(folder, voxel=voxel, roi=roi, limit=limit)
    elif voxel is not None:
        table = tables.voxel_details(folder, voxel)
    elif query is not None:
        table = tables.query(folder, config, query, roi=roi, noun=noun, limit=limit)
    else:
        table = tables.voxel_table(folder, roi=roi, noun=noun, limit=limit)
    print(render(table, form, width=width, spare=SPARE), end="")


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Folder of a run.")],
    stimuli: Annotated[
        bool | None, typer.Option("--stimuli/--no-stimuli", help="Show pictures of stimuli, instead of what the run says.")
    ] = None,
    bank: Annotated[
        Literal["show", "blur", "hide"] | None,
        typer.Option(help="Thumbnails of the bank, instead of what the run says."),
    ] = None,
) -> None:
    """Write the cortex explorer of a run again: one self-contained HTML file."""
    from scuba_ray.report.explorer import write_report

    folder, config = finished(run)
    changed = {name: value for name, value in (("stimuli", stimuli), ("bank", bank)) if value is not None}
    config = config.model_copy(update={"report": config.report.model_copy(update=changed)})
    print(write_report(folder, config))


@app.command()
def doctor(address: Address = None) -> None:
    """Check this machine: packages, devices, memory, the packaged models; say what to do about each problem."""
    from scuba_ray.doctor import examine, prevents_running, show_findings

    findings = examine(address)
    show_findings(findings)
    if prevents_running(findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line (the console script `scuba`)."""
    app()
