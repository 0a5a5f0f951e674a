"""The Kubernetes files against the fields of ray.io/v1 that they use (KubeRay 1.6 and newer), and against each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from scuba_ray.config import load_config
from tests.deploy.files import DEPLOY, KUBERAY, PINS, ROOT, cluster_spec, load

pytestmark = pytest.mark.parametrize("kind", KUBERAY)
FIELDS = {
    "RayCluster": {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    },
    "RayJob": {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"},
    "RayService": {"serveConfigV2", "rayClusterConfig"},
}
"""Of each spec, what these files may use."""
WORKERS = {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"}
POD = {"serviceAccountName", "securityContext", "initContainers", "containers", "volumes", "tolerations"}
CONTAINER = {"name", "image", "command", "args", "ports", "env", "resources", "volumeMounts"}


def groups(kind: str) -> list[dict[str, Any]]:
    spec = cluster_spec(kind)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_fields_are_those_of_the_definition(kind: str) -> None:
    file = load(KUBERAY[kind])
    assert (file["apiVersion"], file["kind"]) == ("ray.io/v1", kind)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", file["metadata"]["name"])
    assert set(file["spec"]) <= FIELDS[kind]
    spec = cluster_spec(kind)
    assert set(spec) <= FIELDS["RayCluster"]
    assert set(spec["headGroupSpec"]) == {"rayStartParams", "template"}
    names = [group["groupName"] for group in spec["workerGroupSpecs"]]
    assert len(set(names)) == len(names)
    for group in spec["workerGroupSpecs"]:
        assert set(group) == WORKERS, "groupName, minReplicas, maxReplicas and template are required"
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]


def test_pods_hold_one_ray_container_with_all_it_names(kind: str) -> None:
    for group in groups(kind):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "parameters are strings"
        pod = group["template"]["spec"]
        assert set(pod) <= POD
        (container,) = pod["containers"]
        assert container["name"] == ("ray-worker" if "groupName" in group else "ray-head")
        volumes = {volume["name"] for volume in pod["volumes"]}
        for one in (container, *pod["initContainers"]):
            assert set(one) <= CONTAINER
            assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
            assert one["resources"]["requests"] == one["resources"]["limits"], "Ray reckons with the limit"
            assert {"cpu", "memory"} <= set(one["resources"]["limits"])
        assert pod["securityContext"]["runAsNonRoot"]


def test_limits_and_what_ray_is_told_agree(kind: str) -> None:
    head, *workers = groups(kind)
    assert head["rayStartParams"]["num-cpus"] == "0", "no worker on the driver's node"
    for group in workers:
        assert not {"num-cpus", "num-gpus", "memory"} & set(group["rayStartParams"]), "the operator takes them from the limits"
        (container,) = group["template"]["spec"]["containers"]
        gpus = int(container["resources"]["limits"].get("nvidia.com/gpu", "0"))
        assert container["image"].endswith("-cuda" if gpus else "-cpu")
    ports = {port["name"]: port["containerPort"] for port in head["template"]["spec"]["containers"][0]["ports"]}
    assert ports == {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": 8000, "metrics": 8080}


def test_ray_is_the_pinned_one_with_its_token(kind: str) -> None:
    spec = cluster_spec(kind)
    assert spec["rayVersion"] == PINS["ray"]
    assert spec["authOptions"] == {"mode": "token"}


def test_the_service_is_the_one_of_serve_deploy(kind: str) -> None:
    if kind == "RayService":
        import yaml

        text = yaml.safe_load(load(KUBERAY[kind])["spec"]["serveConfigV2"])
        ServeDeploySchema.model_validate(text)
        assert text == load(DEPLOY / "serve" / "config.yaml")
        gpu = next(group for group in groups(kind) if group.get("groupName") == "gpu")
        assert gpu["minReplicas"] >= 1, "a service waits for no node"
        for group in groups(kind):
            (container,) = group["template"]["spec"]["containers"]
            assert "SCUBA_SERVE_TOKEN" in [variable["name"] for variable in container["env"]]


def test_the_example_fits_the_nodes(kind: str) -> None:
    engine = load_config(ROOT / "examples" / "cluster.yaml").engine
    limits = {group.get("groupName"): group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups(kind)}
    most = {group.get("groupName"): group.get("maxReplicas") for group in groups(kind)}
    assert engine.cpus_per_worker <= int(limits["gpu"]["cpu"])
    assert engine.max_workers * engine.gpus_per_worker <= int(limits["gpu"]["nvidia.com/gpu"]) * most["gpu"]
    assert engine.decoders * engine.cpus_per_decoder <= int(limits["decode"]["cpu"]) * most["decode"]


def test_a_job_reads_the_configuration_where_it_is_mounted(kind: str) -> None:
    if kind == "RayJob":
        head, *_ = groups(kind)
        entrypoint = load(KUBERAY[kind])["spec"]["entrypoint"]
        mounts = {mount["name"]: mount["mountPath"] for mount in head["template"]["spec"]["containers"][0]["volumeMounts"]}
        assert entrypoint == f"scuba run {mounts['run']}/run.yaml"
        assert "--from-file=run.yaml=examples/cluster.yaml" in KUBERAY[kind].read_text()
