"""A Ray cluster in a process of its own, whose nodes come and are killed as lines on its input say; it ends with its input.

python -m tests.multinode.nodes CPUS_OF_THE_HEAD

Prints its address and its head's id. `add CPUS GPUS` answers the new node's id, `kill ID` ends everything of a node at once, as a
lost machine would.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"object_store_memory": 100 * 2**20, "include_dashboard": False}


def head(cpus: int) -> Cluster:
    """A cluster of a head; Ray gives it 30 s, which it can miss where many other tests run."""
    for _ in range(2):
        try:
            return Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": cpus})
        except Exception as error:
            print(f"once more: {error}", file=sys.stderr)
    return Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": cpus})


def main() -> None:
    cluster = head(int(sys.argv[1]))
    nodes = {cluster.head_node.node_id: cluster.head_node}
    print(cluster.address, cluster.head_node.node_id, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["add", cpus, gpus]:
                node = cluster.add_node(num_cpus=int(cpus), num_gpus=int(gpus), object_store_memory=NODE["object_store_memory"])
                nodes[node.node_id] = node
                print(node.node_id, flush=True)
            case ["kill", name]:
                nodes[name].kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
                print(name, flush=True)
    for node in nodes.values():
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


if __name__ == "__main__":
    main()
