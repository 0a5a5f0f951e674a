"""From settings of replicas to Ray Serve's own: how many there are, what waits, what each reserves, when one is replaced."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from scuba_ray.config.serve import ReplicasConfig

RETRY_AFTER_SECONDS = 1.0
"""What a client that found all queues full is told to wait."""
_HEALTH_PERIOD_SECONDS = 5.0
_HEALTH_TIMEOUT_SECONDS = 30.0
"""A replica that says nothing for so long is replaced. Models compute in a thread of their own: a healthy one always answers."""
_STARTS = 3
"""A model that could not be loaded is tried so often before the application says why."""


def options(replicas: ReplicasConfig) -> dict[str, Any]:
    """Keyword arguments of a deployment's `.options()`.

    Another replica is wanted as soon as those there are have more than half of `ongoing` calls each: as much again as is in work
    would wait for the next batch.
    """
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min_replicas,
            max_replicas=replicas.max_replicas,
            target_ongoing_requests=replicas.ongoing / 2,
        ),
        "max_ongoing_requests": replicas.ongoing,
        "max_queued_requests": replicas.queued,
        "backpressure_config": BackpressureConfig(retry_after_s=RETRY_AFTER_SECONDS),
        "health_check_period_s": _HEALTH_PERIOD_SECONDS,
        "health_check_timeout_s": _HEALTH_TIMEOUT_SECONDS,
        "max_constructor_retry_count": _STARTS,
        "ray_actor_options": {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
    }


def deployment(model: type, replicas: ReplicasConfig) -> serve.Deployment:
    """The deployment of a class (named like it), ready to `.bind` what its constructor takes."""
    if not getattr(model, "on_device", True):
        replicas = replicas.model_copy(update={"gpus": 0.0})
    return serve.deployment(model, name=model.__name__, **options(replicas))
