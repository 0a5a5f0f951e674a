"""A Ray cluster in a process of its own, whose nodes come and are killed as lines on its input say; it ends with its input.

python -m tests.multinode.nodes CPUS_OF_THE_HEAD

Prints its address and its head's id. `add CPUS GPUS` answers the new node's id, `kill ID` ends everything of a node at once, as a
lost machine would.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import psutil
from ray.cluster_utils import Cluster

NODE = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
TRIES = 4


def started(start: Callable[[], Any]) -> Any:
    """What `start` returns; Ray gives a node 30 s, which it can miss where many other tests run."""
    for left in reversed(range(TRIES)):
        before = psutil.Process().children(recursive=True)
        try:
            return start()
        except Exception as error:
            print(f"{error}: {left} more tries", file=sys.stderr)
            for process in psutil.Process().children(recursive=True):
                if process not in before:  # it would join after all
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            if not left:
                raise


def main() -> None:
    cpus_of_the_head = int(sys.argv[1])
    cluster = started(lambda: Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": cpus_of_the_head}))
    nodes = {cluster.head_node.node_id: cluster.head_node}
    print(cluster.address, cluster.head_node.node_id, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["add", cpus, gpus]:
                size = {"num_cpus": int(cpus), "num_gpus": int(gpus), "object_store_memory": NODE["object_store_memory"]}
                node = started(lambda size=size: cluster.add_node(**size))
                nodes[node.node_id] = node
                print(node.node_id, flush=True)
            case ["kill", name]:
                nodes[name].kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
                print(name, flush=True)
    for node in nodes.values():
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


if __name__ == "__main__":
    main()
