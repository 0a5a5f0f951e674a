"""Whether a cluster's nodes run what the driver runs. Other code computes other numbers, or does not understand the driver.

Every node that is up is asked when the driver joins. A node that comes later (an autoscaler's, a replaced one) is not; there each
worker holds itself against the driver before it computes its first chunk.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import socket
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from ray.exceptions import RayError

import scuba_ray
from scuba_ray.actors import nodes
from scuba_ray.errors import ConfigError

Versions = Mapping[str, str]
"""What a process runs: name to version. `code` is a digest of the installed scuba_ray, which tells apart what has one version;
`place` says which machine's files they are."""

_MUST_AGREE = ("scuba_ray", "code", "Python", "ray")
_SHOULD_AGREE = ("Python", "torch", "pyarrow", "numpy", "transformers", "open_clip_torch")
"""Python twice: another minor version cannot work, another patch should."""
_ADVICE = (
    "Give every node the same: one image, or the same wheel in the setup commands; or send the driver's code with the job "
    "(`ray job submit --working-dir`)"
)


@functools.cache
def installed() -> Versions:
    """What this process runs. Reads the package's sources once, some milliseconds; imports nothing heavy."""
    package = Path(scuba_ray.__file__).parent
    return {
        "scuba_ray": scuba_ray.__version__,
        "code": _digest(package),
        "place": f"{socket.gethostname()}:{package}",
        "Python": platform.python_version(),
        "ray": ray.__version__,
        **{package: _version(package) for package in _SHOULD_AGREE if package != "Python"},
    }


def check_nodes() -> list[str]:
    """Ask every node that is up what it runs; return the differences that need not matter, in words.

    Raises
    ------
    ConfigError
        If a node has another scuba_ray, Python (minor version) or Ray, or none that answers; the message names each.
    """
    wrong, notes = list[str](), list[str]()
    for answer in nodes.ask(_tell):
        if not answer.in_time:
            notes.append(
                f"node {answer.node} did not say in {nodes.ANSWER_SECONDS:g} seconds what it runs; its workers check themselves"
            )
        elif answer.failure is not None:
            wrong.append(f"node {answer.node} has no scuba_ray that answers ({_last_line(answer.failure)})")
        elif not _agree(answer.value, installed()):
            wrong.append(_difference(answer.node, answer.value, installed(), _MUST_AGREE))
        elif any(answer.value.get(name) != installed()[name] for name in _SHOULD_AGREE):
            notes.append(_difference(answer.node, answer.value, installed(), _SHOULD_AGREE))
    if wrong:
        raise ConfigError(f"the cluster does not run what this driver runs: {'; '.join(wrong)}. {_ADVICE}")
    return notes


def _tell() -> Versions:
    """What a node answers."""
    return installed()


def check_this_process(driver: Versions) -> None:
    """Hold a worker's own process against what the driver runs.

    Raises
    ------
    ConfigError
        If it has another scuba_ray, Python (minor version) or Ray.
    """
    if not _agree(installed(), driver):
        here = _difference(ray.util.get_node_ip_address(), installed(), driver, _MUST_AGREE)
        raise ConfigError(f"a worker does not run what the driver runs: {here}. {_ADVICE}")


def _agree(there: Versions, driver: Versions) -> bool:
    """Whether what must agree does. The same files are not compared: on one machine they are the same, or edited meanwhile."""
    names = [name for name in _MUST_AGREE if name != "code" or there.get("place") != driver["place"]]
    minor = there["Python"].rpartition(".")[0] == driver["Python"].rpartition(".")[0]
    return minor and all(there.get(name) == driver[name] for name in names if name != "Python")


def _difference(node: str, there: Versions, driver: Versions, names: Sequence[str]) -> str:
    different = [name for name in names if there.get(name) != driver[name]]
    has = ", ".join(f"{name} {there.get(name, 'not known')}" for name in different)
    return f"node {node} has {has}; the driver has {', '.join(f'{name} {driver[name]}' for name in different)}"


def _digest(package: Path) -> str:
    """A digest of names and contents of a package's modules, wherever it is installed."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}:{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def _version(package: str) -> str:
    """A package's version, without the label of a build: 2.9.1+cpu and 2.9.1 with CUDA are meant to work together."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"


def _last_line(error: RayError) -> str:
    """What went wrong at the far end: the last line of a traceback that travelled."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
