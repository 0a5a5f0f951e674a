"""A question to every node of the cluster: a task each, which reserves nothing, with a limit on how long a node may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_SECONDS = 60.0
"""How long a node may take to answer; a worker process has to start there first."""


@dataclass(frozen=True)
class Answer:
    """What a node said, or why it did not: `failure` is None where it did not answer in time either."""

    node: str
    value: Any = None
    failure: RayError | None = None
    in_time: bool = True


def ask(function: Callable[..., Any], *arguments: Any) -> list[Answer]:
    """Call `function` (of a module the nodes have) on every node that is up, all at once; answers in the order of addresses.

    A node that was lost before it was done is left out.
    """
    nodes = _up()
    remote = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote(*arguments): name
        for name in nodes
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answers = {asked[reference]: Answer(nodes[asked[reference]], in_time=False) for reference in silent}
    for reference in answered:
        name = asked[reference]
        try:
            answers[name] = Answer(nodes[name], ray.get(reference))
        except RayError as error:
            answers[name] = Answer(nodes[name], failure=error)
    still_up = _up()
    return sorted((answer for name, answer in answers.items() if name in still_up), key=lambda answer: answer.node)


def _up() -> dict[str, str]:
    """Addresses of the nodes that are up."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
