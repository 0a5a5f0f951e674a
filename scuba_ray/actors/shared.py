"""Whether every node of a cluster sees a path: asked with a probe file, since two machines can have the same path apart."""

from __future__ import annotations

import uuid
from pathlib import Path

from scuba_ray.actors import nodes
from scuba_ray.errors import ConfigError
from scuba_ray.tables import files


def check_shared(path: str) -> None:
    """Raise ConfigError unless every node that is up sees `path`. Locations on an object store pass.

    Raises
    ------
    ConfigError
        If a node does not see the driver's probe file, or does not answer; the message names it.
    """
    if not files.is_local(path):
        return
    folder = files.normalise(path)
    probe = f".probe-{uuid.uuid4().hex}"
    files.write(folder, probe, b"")
    try:
        blind = _blind_nodes(f"{folder}/{probe}")
    finally:
        files.delete(folder, probe)
    if blind:
        raise ConfigError(
            f"{folder} is not seen by every node of the cluster: {', '.join(blind)}. "
            "Put it on a filesystem that all nodes mount at the same path, or on an object store (s3://..., gs://...)"
        )


def _blind_nodes(probe: str) -> list[str]:
    """Addresses of the nodes that do not see the probe file, or do not answer."""
    blind = []
    for answer in nodes.ask(_exists, probe):
        if not answer.in_time:
            blind.append(f"{answer.node} (no answer)")
        elif answer.failure is not None:
            blind.append(f"{answer.node} ({type(answer.failure).__name__})")
        elif not answer.value:
            blind.append(answer.node)
    return blind


def _exists(path: str) -> bool:
    return Path(path).exists()
