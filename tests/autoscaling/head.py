"""The head of a Ray cluster with Ray's own autoscaler, which may add up to two nodes: they are processes of this machine.

python -m tests.autoscaling.head VERSION FOLDER NODE

Prints the address and becomes `ray start --head --block`. VERSION 1 is the autoscaler of a head started by hand, 2 the one of
KubeRay and `ray up`. NODE is JSON, what each node has: {"CPU": 1, "GPU": 1}.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

IDLE_MINUTES = 0.15
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"


def configuration(address: str, node: dict[str, float]) -> dict[str, Any]:
    """What `ray up` would make of a cluster file: every key has to be there."""
    return {
        "cluster_name": "fake",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        "docker": {},
        # by its class: for the name `fake_multinode` the second autoscaler wants a file that Ray's wheel leaves out
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {**node, "object_store_memory": 100 * 2**20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "head_node_type": "ray.head.default",
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def main() -> None:
    version, folder, node = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"{get_node_ip_address()}:{port}"
    (folder / "autoscaling.yaml").write_text(json.dumps(configuration(address, node)))
    environment = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    if version == "2":
        environment |= {
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
    print(address, flush=True)
    command = [
        str(Path(sys.executable).with_name("ray")),
        *("start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false", "--num-cpus=0"),
        *(f"--port={port}", f"--object-store-memory={100 * 2**20}", f"--autoscaling-config={folder}/autoscaling.yaml"),
    ]
    os.execve(command[0], command, os.environ | environment)


if __name__ == "__main__":
    main()
