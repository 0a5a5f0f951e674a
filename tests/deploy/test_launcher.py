"""The cluster launcher's files, as Ray's own launcher reads them, up to the first question to a cloud."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
from ray.autoscaler._private.util import prepare_config, validate_config

from scuba_ray.config import load_config
from tests.deploy.files import LAUNCHER, ROOT, load

pytestmark = pytest.mark.parametrize("cloud", LAUNCHER)
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


def workers(cluster: dict[str, Any]) -> dict[str, Any]:
    kinds = cluster["available_node_types"]
    return {name: kind for name, kind in kinds.items() if name != cluster["head_node_type"]}


def test_ray_takes_the_file(cloud: str) -> None:
    cluster = load(LAUNCHER[cloud])
    jsonschema.validate(cluster, SCHEMA)
    prepared = prepare_config(deepcopy(cluster))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert set(cluster) <= set(SCHEMA["properties"])
    wrong = {**cluster, "idle_minutes": 5}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_the_head_computes_nothing_and_workers_come_and_go(cloud: str) -> None:
    cluster = load(LAUNCHER[cloud])
    assert cluster["provider"]["type"] == cloud
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}
    (start,) = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert "--num-cpus=0" in start
    assert "--dashboard-host=127.0.0.1" in start, "the dashboard runs code for whoever reaches it"
    assert {kind["min_workers"] for kind in workers(cluster).values()} == {0}
    assert cluster["idle_timeout_minutes"] > 0
    with_gpu = [kind for kind in workers(cluster).values() if kind["resources"].get("GPU")]
    assert with_gpu
    assert len(with_gpu) < len(workers(cluster))
    for kind in workers(cluster).values():
        node = kind["node_config"]
        spot = node.get("InstanceMarketOptions", {}).get("MarketType") == "spot" or {"preemptible": True} in node.get(
            "scheduling", []
        )
        assert spot
        assert node.get("IamInstanceProfile") or node.get("serviceAccounts"), "workers write to the bucket"


def test_gpu_nodes_get_the_image_with_cuda_and_every_node_the_token(cloud: str) -> None:
    cluster = load(LAUNCHER[cloud])
    for kind in cluster["available_node_types"].values():
        image = kind.get("docker", {}).get("worker_image", cluster["docker"]["image"])
        assert image.endswith("-cuda" if kind["resources"].get("GPU") else "-cpu")
    options = " ".join(cluster["docker"]["run_options"])
    assert "--env RAY_AUTH_MODE=token" in options
    (path,) = [word.partition("=")[2] for word in options.split() if word.startswith("RAY_AUTH_TOKEN_PATH=")]
    assert cluster["file_mounts"][path] == "~/.ray/auth_token"


def test_the_example_fits_the_nodes(cloud: str) -> None:
    cluster = load(LAUNCHER[cloud])
    engine = load_config(ROOT / "examples" / "cluster.yaml").engine
    gpu = next(kind for kind in workers(cluster).values() if kind["resources"].get("GPU"))
    decode = next(kind for kind in workers(cluster).values() if not kind["resources"].get("GPU"))
    assert engine.gpus_per_worker <= gpu["resources"]["GPU"]
    assert engine.cpus_per_worker <= gpu["resources"]["CPU"]
    assert engine.max_workers * engine.gpus_per_worker <= gpu["resources"]["GPU"] * gpu["max_workers"]
    assert engine.decoders * engine.cpus_per_decoder <= decode["resources"]["CPU"] * decode["max_workers"]
    assert cluster["max_workers"] <= sum(kind["max_workers"] for kind in workers(cluster).values())
