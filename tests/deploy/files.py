"""The files of deploy/ as data, and what several tests ask of them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LAUNCHER = {"aws": ROOT / "cluster.yaml", "gcp": DEPLOY / "gcp.yaml"}
KUBERAY = {kind: DEPLOY / "kuberay" / f"{kind.lower()}.yaml" for kind in ("RayCluster", "RayJob", "RayService")}
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def tracked() -> list[Path]:
    """Every file of deploy/, and cluster.yaml."""
    return [LAUNCHER["aws"], *sorted(path for path in DEPLOY.rglob("*") if path.is_file())]


def load(path: Path) -> Any:
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


def cluster_spec(kind: str) -> dict[str, Any]:
    """The RayClusterSpec in a Kubernetes file."""
    spec: dict[str, Any] = load(KUBERAY[kind])["spec"]
    return {"RayCluster": spec, "RayJob": spec.get("rayClusterSpec", {}), "RayService": spec.get("rayClusterConfig", {})}[kind]


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from values(value, key)
