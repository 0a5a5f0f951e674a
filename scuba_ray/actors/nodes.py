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
    """Call `function` (of a module the nodes have) on every node that is up, all at once; answers in the order of addresses."""
    remote = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*arguments): node[
            "NodeManagerAddress"
        ]
        for node in ray.nodes()
        if node["Alive"]
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answers = [Answer(asked[reference], in_time=False) for reference in silent]
    for reference in answered:
        try:
            answers.append(Answer(asked[reference], ray.get(reference)))
        except RayError as error:
            answers.append(Answer(asked[reference], failure=error))
    return sorted(answers, key=lambda answer: answer.node)
