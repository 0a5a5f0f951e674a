"""How many workers the nodes of a cluster hold; where too few, its autoscaler is asked for more, or the reader told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import ray

from scuba_ray.actors import growth
from scuba_ray.errors import ConfigError
from scuba_ray.protocols import Resources

GROW_MINUTES = 30.0
"""How long nodes may take to come, unless the configuration says otherwise (engine.grow_minutes)."""
_QUIET_SECONDS = 30.0
"""An autoscaler that has launched nothing for so long will not: it looks at what is wanted every few seconds."""
_POLL_SECONDS = 0.5

_log = logging.getLogger(__name__)


class NoRoomError(ConfigError):
    """The cluster holds too few workers."""


def capacity(resources: Resources, beside: Resources | None = None, count: int = 0) -> int:
    """How many workers of this size the nodes that are up can hold, all else idle but `count` others `beside` them.

    Those are taken to be where they are least in the way. Negative if they find no room themselves.
    """
    nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    if beside is not None:
        for node in sorted(nodes, key=lambda node: _holds(node, resources)):
            here = min(count, _holds(node, beside))
            count -= here
            for kind, amount in _amounts(beside).items():
                node[kind] = node.get(kind, 0.0) - here * amount
    return -count if count else sum(_holds(node, resources) for node in nodes)


def room_for(
    step: str,
    least: int,
    resources: Resources,
    beside: Resources | None = None,
    count: int = 0,
    *,
    minutes: float = GROW_MINUTES,
) -> int:
    """How many workers of this size the nodes that are up hold, `count` others beside them and all else idle.

    Where that is fewer than `least` and the cluster has an autoscaler, it is asked for more nodes and waited for.

    Parameters
    ----------
    minutes : float
        How long nodes may take to come.

    Raises
    ------
    NoRoomError
        If that is fewer than `least`, and stays so.
    """
    room = capacity(resources, beside, count)
    if room >= least:
        return room
    why = ""
    if growth.can_grow():
        wanted = [_amounts(resources)] * least + [_amounts(beside or Resources())] * count
        room, why = _grown(step, least, wanted, minutes, lambda: capacity(resources, beside, count))
    if room < least:
        memory = f", {resources.memory / 2**30:.1f} GiB of memory" if resources.memory else ""
        each = f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs{memory}"
        others, lower = "", "engine.min_workers, engine.cpus_per_worker or engine.gpus_per_worker"
        if beside is not None and count:
            others = f" beside {count} decoder{'s' * (count != 1)} of {beside.cpus:g} CPUs each"
            lower = f"engine.decoders, engine.cpus_per_decoder, {lower}"
        raise NoRoomError(
            f"{step} needs {least} worker{'s' * (least != 1)} of {each} each{others}; the Ray cluster has {describe()}, "
            f"which holds {max(room, 0)}{why}. Set {lower} lower, or join a larger cluster with --address"
        )
    return room


def _grown(
    step: str, least: int, wanted: Sequence[Mapping[str, float]], minutes: float, room_now: Callable[[], int]
) -> tuple[int, str]:
    """Wait for nodes that hold what is wanted; the room there is then, and why it is not more, in words."""
    _log.warning("%s needs %d worker%s and waits for nodes, at most %g minutes", step, least, "s" * (least != 1), minutes)
    began = launched = time.monotonic()
    with growth.asking([{kind: amount for kind, amount in one.items() if amount > 0} for one in wanted]):
        while (room := room_now()) < least:
            now = time.monotonic()
            if growth.is_launching():
                launched = now
            if now - began >= minutes * 60:
                return room, f" after {minutes:g} minutes of waiting for its autoscaler (engine.grow_minutes)"
            if now - launched >= _QUIET_SECONDS:
                return room, "; its autoscaler launches no more nodes for that: none that it may add is large enough"
            time.sleep(_POLL_SECONDS)
    return room, ""


def _holds(node: Mapping[str, float], resources: Resources) -> int:
    """How many workers of this size a node holds."""
    wanted = {kind: amount for kind, amount in _amounts(resources).items() if amount > 0}
    return min((int(node.get(kind, 0.0) / amount + 1e-6) for kind, amount in wanted.items()), default=1)


def _amounts(resources: Resources) -> dict[str, float]:
    return {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory or 0)}


def fits_beside(resources: Resources, workers: int, others: Resources, busy: int) -> bool:
    """Whether so many workers find room while `busy` others stay, by what the cluster has in all."""
    have = ray.cluster_resources()
    wanted = {
        "CPU": resources.cpus * workers + others.cpus * busy,
        "GPU": resources.gpus * workers + others.gpus * busy,
        "memory": float((resources.memory or 0) * workers + (others.memory or 0) * busy),
    }
    return all(amount <= have.get(kind, 0.0) + 1e-6 for kind, amount in wanted.items())


def describe() -> str:
    """What the cluster has, for messages: `2 CPUs, 0 GPUs and 15.2 GiB of memory on 1 node`."""
    total = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    return (
        f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs and {total.get('memory', 0) / 2**30:.1f} GiB of memory "
        f"on {nodes} node{'s' * (nodes != 1)}"
    )
