"""A Ray cluster on which Serve runs an application of somebody else's: prints its address and Serve's port, lives until its input
is closed, and says at the end what Serve serves.

python -m tests.serve.other_app PORT
"""

from __future__ import annotations

import json
import sys

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.config import HTTPOptions
from starlette.requests import Request


@serve.deployment(ray_actor_options={"num_cpus": 0.05})
class Other:
    """Answers, that is all."""

    def __call__(self, request: Request) -> str:
        return "other"


def main() -> None:
    port = int(sys.argv[1])
    head = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    serve.run(Other.bind(), name="other", route_prefix="/other")
    print(cluster.address, flush=True)
    sys.stdin.readline()
    print(json.dumps(sorted(serve.status().applications)), flush=True)
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
