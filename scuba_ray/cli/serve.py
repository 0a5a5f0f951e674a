"""scuba serve: a finished run as a service, until Ctrl-C."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scuba_ray.cli.options import Address


def serve(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 8000,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets other machines in: set a token first (SCUBA_SERVE_TOKEN).")
    ] = "127.0.0.1",
    address: Address = None,
    name: Annotated[str, typer.Option(help="What the application is called on its cluster.")] = "scuba",
    prefix: Annotated[str, typer.Option(help="Its paths begin with this; for several runs on one cluster.")] = "/",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change a setting of the service; may be repeated.")
    ] = None,
) -> None:
    """Answer requests about a run over HTTP: its page, captions, projections, predictions. Ctrl-C ends it."""
    from scuba_ray.config.settings import apply_override
    from scuba_ray.errors import ConfigError
    from scuba_ray.terminal import say

    args: dict[str, Any] = {"run": run}
    for setting in settings or ():
        apply_override(args, setting)
    if not prefix.startswith("/"):
        raise ConfigError(f"--prefix must begin with /, got {prefix!r}")
    from scuba_ray.serve.service import Place, Terminated, service, watch

    try:
        with service(args, Place(host=host, port=port, name=name, prefix=prefix, address=address), say) as url:
            print(url, flush=True)
            say("serving; Ctrl-C ends it")
            watch(name)
    except KeyboardInterrupt:
        say("stopped")
        raise typer.Exit(130) from None
    except Terminated:
        say("stopped")
