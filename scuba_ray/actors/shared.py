"""Whether every node of a cluster sees a path: asked with a probe file, since two machines can have the same path apart."""

from __future__ import annotations

import uuid
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scuba_ray.errors import ConfigError
from scuba_ray.tables import files

ANSWER_SECONDS = 60.0
"""How long a node may take to say what it sees; a worker process has to start there first."""


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
    sees = ray.remote(num_cpus=0, max_retries=0)(_exists)
    asked = {
        sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(probe): node
        for node in ray.nodes()
        if node["Alive"]
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    blind = [f"{asked[reference]['NodeManagerAddress']} (no answer)" for reference in silent]
    for reference in answered:
        try:
            if not ray.get(reference):
                blind.append(asked[reference]["NodeManagerAddress"])
        except ray.exceptions.RayError as error:
            blind.append(f"{asked[reference]['NodeManagerAddress']} ({type(error).__name__})")
    return sorted(blind)


def _exists(path: str) -> bool:
    return Path(path).exists()
