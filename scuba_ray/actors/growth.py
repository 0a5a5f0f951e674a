"""What a cluster's autoscaler is asked and what it says: whether there is one, and whether it is launching nodes.

Ray has two of them. The second (KubeRay, `ray up`) reports its state to the head, the first (a head started by hand with
`--autoscaling-config`) leaves a status there. Neither tells which kinds of nodes it may add, so it is asked by wanting them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import (  # type: ignore[attr-defined]
    GCS_AUTOSCALER_STATE_NAMESPACE,
    GCS_AUTOSCALER_V2_ENABLED_KEY,
    GcsClient,
)
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.util.placement_group import placement_group, remove_placement_group

_SECONDS = 10
"""How long the head may take to answer."""


def can_grow() -> bool:
    """Whether an autoscaler looks after the cluster, so that what is up now need not be all there is."""
    if _is_second():
        return True
    # where nobody may add nodes, the first one still runs and mirrors those that are up, each as a kind of its own
    mirrored = {f"node_{node['NodeID']}" for node in ray.nodes()}
    return not mirrored.issuperset(_report()["active_nodes"])


def is_launching() -> bool:
    """Whether the autoscaler has nodes on their way."""
    if not _is_second():
        report = _report()
        return bool(report["pending_launches"] or report["pending_nodes"])
    status = GetClusterStatusReply.FromString(_head().get_cluster_status(timeout_s=_SECONDS))
    return bool(status.autoscaling_state.pending_instance_requests or status.autoscaling_state.pending_instances)


@contextlib.contextmanager
def asking(bundles: Sequence[dict[str, float]]) -> Iterator[None]:
    """Want these resources, each on a node of any kind, while in the context; a driver that dies wants them no more.

    (`ray.autoscaler.sdk.request_resources` would keep nodes up after the driver's death.)
    """
    group = placement_group(list(bundles), strategy="PACK")
    try:
        yield
    finally:
        remove_placement_group(group)


def _is_second() -> bool:
    name, space = GCS_AUTOSCALER_V2_ENABLED_KEY, GCS_AUTOSCALER_STATE_NAMESPACE
    return bool(_head().internal_kv_get(name.encode(), namespace=space.encode(), timeout=_SECONDS) == b"1")


def _report() -> dict[str, Any]:
    """What the first autoscaler said last; it starts with its head and may not have spoken yet."""
    said = _head().internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS.encode(), timeout=_SECONDS)
    report: dict[str, Any] | None = json.loads(said).get("autoscaler_report") if said else None
    return report or {"active_nodes": {}, "pending_launches": {}, "pending_nodes": []}


def _head() -> GcsClient:
    return ray._private.worker.global_worker.gcs_client
