"""Which analyses a run takes: those it names, and for `all` every registered one that a run like it can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scuba_ray.config import RunConfig
from scuba_ray.config.analyses import EVERY
from scuba_ray.protocols import Analysis, Conditional
from scuba_ray.registry import SEAMS, resolve


@dataclass(frozen=True)
class Chosen:
    """Analyses, open, and what `all` left out."""

    config: RunConfig
    """With the analyses by name."""
    analyses: tuple[Analysis, ...]
    left_out: tuple[str, ...]
    """Warnings: which, and why."""


def choose(config: RunConfig, lacks: Callable[[Analysis], str | None]) -> Chosen:
    """Open the analyses of `config`; `all` is what the registry has beside those that are named, and follows them.

    Parameters
    ----------
    config : RunConfig
    lacks : callable
        Why the run cannot have an analysis that its configuration allows, to follow its name: `all` leaves it out.

    Raises
    ------
    ConfigError
        If one that is named cannot be made of this run, or settings of any are wrong.
    """
    analyses: list[Analysis] = [resolve("analysis", name)(config) for name in config.analyses if name != EVERY]
    names, left_out = [name for name in config.analyses if name != EVERY], list[str]()
    for name in SEAMS["analysis"] if EVERY in config.analyses else ():
        if name in names:
            continue
        kind = resolve("analysis", name)
        why = kind.lacking(config) if isinstance(kind, Conditional) else None
        if why is None:
            analysis: Analysis = kind(config)
            why = lacks(analysis)
        if why is None:
            names.append(name)
            analyses.append(analysis)
        else:
            left_out.append(said_left_out(name, f"it {why}"))
    return Chosen(config.model_copy(update={"analyses": tuple(names)}), tuple(analyses), tuple(left_out))


def said_left_out(name: str, why: str = "") -> str:
    """The warning of an analysis that a run does not have; without `why` its beginning."""
    return f"analysis {name} is left out: {why}"
