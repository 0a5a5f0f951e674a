"""The run that a command reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scuba_ray.errors import ConfigError

if TYPE_CHECKING:
    from scuba_ray.config import RunConfig
    from scuba_ray.tables.store import RunFolder


def finished(location: str) -> tuple[RunFolder, RunConfig]:
    """Open the folder of a run with the configuration it was made with.

    Raises
    ------
    ConfigError
        If there is no run.
    """
    from scuba_ray.config import make_config
    from scuba_ray.tables.store import RunFolder

    folder = RunFolder(location)
    record = folder.read_run_json()
    if "config" not in record:
        raise ConfigError(f"{location} holds no run; make one with `scuba run CONFIG.yaml --out {location}` or `scuba demo`")
    return folder, make_config(record["config"])
