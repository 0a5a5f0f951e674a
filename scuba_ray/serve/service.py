"""`scuba serve`: Ray joined or embedded, the application started on it, and at the end only that taken away which was brought."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.api import RunTarget
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, LoggingConfig

from scuba_ray.actors import cluster, growth, room
from scuba_ray.actors.cluster import Cluster
from scuba_ray.config import ServeConfig
from scuba_ray.config.serve import ReplicasConfig
from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.protocols import Resources
from scuba_ray.serve.app import app_builder, open_run

_LOOK_SECONDS = 0.5
_WATCH_SECONDS = 5.0
_PARTS = ("ingress", "subjects", "encoder", "projector", "captioner", "nearest", "synthesis")
_LOGS = LoggingConfig(enable_access_log=False)
"""Every request has a line of our own (`protection.Numbered`); Serve's would be a second and a third."""
_GONE = (RayError, RayServeException)
_FAILED = {ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY}

Say = Callable[[str], None]


class Terminated(BaseException):
    """SIGTERM: not an error, and nothing that code on the way may catch as one."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a service is reached, and what it is called on its cluster."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    name: str = "scuba"
    prefix: str = "/"
    """Its paths begin with this: several runs can be served by one cluster."""
    address: str | None = None
    """A Ray cluster to join; None embeds one."""


@contextlib.contextmanager
def service(args: Mapping[str, Any], place: Place, tell: Say) -> Iterator[str]:
    """Serve a run for the time of the context.

    Parameters
    ----------
    args : mapping
        Settings of `ServeConfig`.
    place : Place
    tell : callable
        Gets a sentence as each part is ready.

    Yields
    ------
    str
        The service's URL: every deployment answers.

    Raises
    ------
    ConfigError
        If settings, run, port or cluster cannot work. No model has been loaded.
    WorkerError
        If a deployment could not be started; the message says which and why.
    """
    settings, _ = open_run(dict(args))
    token = os.environ.get(settings.token_variable)
    if not _is_loopback(place.host) and not token:
        tell(
            f"ANYBODY who reaches {place.host}:{place.port} may use this service: it asks for no token. Set "
            f"{settings.token_variable} to a secret (`openssl rand -hex 32`), and put TLS in front"
        )
    ray_here, port = Cluster(place.address), place.port
    if ray_here.address is None:  # before Ray, which takes seconds
        port = _free_port(place.host, port)
    with contextlib.ExitStack() as undo:
        undo.callback(ray_here.stop)
        if ray_here.address is None:
            undo.enter_context(_patient())
        ray_here.start()
        undo.enter_context(_terminable())
        undo.enter_context(_quiet())
        tell("Ray is started" if ray_here.address is None else f"joined the Ray cluster at {ray_here.address}")
        _check_room(settings)
        before = serve.status()
        ran_before = bool(before.proxies or before.applications)
        if place.name in before.applications:
            raise ConfigError(f"an application {place.name} is served on this cluster already; choose another name with --name")
        if ray_here.address is not None and not ran_before and _is_here(_head()):
            port = _free_port(place.host, port)
        closed = settings.hosts is None and not ran_before and _is_loopback(place.host) and not token
        application = app_builder({**args, "hosts": []} if closed else dict(args))
        undo.callback(_take_away, place.name, ran_before)
        if not ran_before:
            options = HTTPOptions(host=place.host, port=port, request_timeout_s=settings.limits.seconds)
            serve.start(http_options=options, logging_config=_LOGS)
        listens = _get_global_client().http_config
        if ran_before:
            tell(
                f"Serve runs on this cluster already and listens at {listens.host}:{listens.port}: --host and --port are its own"
            )
        target = RunTarget(application, place.name, place.prefix, _LOGS)
        serve.run_many([target], wait_for_applications_running=False)
        _wait(place.name, tell)
        yield f"http://{_in_url(listens.host)}:{listens.port}{place.prefix.rstrip('/')}/"


def watch(name: str) -> None:
    """Return when the application is no longer there.

    Raises
    ------
    WorkerError
        If Ray is gone, or the application was deleted by somebody else.
    """
    while True:
        time.sleep(_WATCH_SECONDS)
        try:
            there = name in serve.status().applications
        except _GONE as error:
            raise WorkerError(f"the Ray this service ran on is gone: {cluster.first_line(error)}") from error
        if not there:
            raise WorkerError(f"the application {name} was deleted by somebody else")


def _wait(name: str, tell: Say) -> None:
    """Tell as each deployment is ready; return when all are."""
    ready: set[str] = set()
    while True:
        state = serve.status().applications.get(name)
        if state is None:
            raise WorkerError(f"the application {name} was deleted while it started")
        for one, deployment in state.deployments.items():
            if deployment.status == "HEALTHY" and one not in ready:
                ready.add(one)
                tell(f"{one} is ready ({len(ready)} of {len(state.deployments)})")
        if state.status == ApplicationStatus.RUNNING:
            return
        if state.status in _FAILED:
            raise WorkerError(f"the service could not be started: {_why(state)}")
        time.sleep(_LOOK_SECONDS)


def _why(state: ApplicationStatusOverview) -> str:
    """Which deployments failed, with the last line of what they raised: Serve's messages hold whole traces."""
    words = []
    for name, deployment in state.deployments.items():
        lines = [line.strip() for line in deployment.message.splitlines() if "Error" in line]
        words += [f"{name}: {lines[-1]}"] if lines else []
    return "; ".join(words) or state.message.strip()


def _take_away(name: str, ran_before: bool) -> None:
    """Delete the application; stop Serve too if it was started for it and serves nothing else by now."""
    with contextlib.suppress(*_GONE):  # with its Ray, all of it is gone
        applications = serve.status().applications
        if name in applications:
            serve.delete(name)
        if not ran_before and not set(applications) - {name}:
            serve.shutdown()


def _check_room(settings: ServeConfig) -> None:
    """Raise ConfigError if the least replicas find no room and the cluster cannot grow: Serve would wait for ever."""
    parts, needed = _parts(settings), reserved(settings)
    if not room.fits_beside(needed, 1, Resources(cpus=0), 0) and not growth.can_grow():
        raise ConfigError(
            f"the service needs {needed.cpus:g} CPUs and {needed.gpus:g} GPUs; the Ray cluster has {room.describe()}. Lower what "
            f"replicas reserve (--set encoder.cpus=0.1; and of {', '.join(parts)}), or join a larger cluster with --address"
        )


def reserved(settings: ServeConfig) -> Resources:
    """What the least replicas of all deployments reserve together, with the holders of the bank."""
    cpus, gpus = 0.0, 0.0
    for name, one in _parts(settings).items():
        # a projector's holders reserve what it says each, and so does it: but its CPUs only, it computes nothing itself
        holders, itself = (settings.holders, 0) if name == "projector" else (0, 1)
        cpus += one.min_replicas * (1 + holders) * one.cpus
        gpus += one.min_replicas * (itself + holders) * one.gpus
    return Resources(cpus=cpus, gpus=gpus)


def _parts(settings: ServeConfig) -> dict[str, ReplicasConfig]:
    return {name: getattr(settings, name) for name in _PARTS if settings.synthesizer or name != "synthesis"}


def _free_port(host: str, port: int) -> int:
    """The port itself, or a free one for 0. Raises ConfigError if it is in use, or the host is not this machine's."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            free: int = probe.getsockname()[1]
            return free
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error}; choose another with --port (0: any free one) or --host"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    """A host as a URL has it; where Serve listens at all addresses, that of the cluster's head."""
    shown = _head() if host in {"0.0.0.0", "::"} else host
    return f"[{shown}]" if ":" in shown else shown


def _head() -> str:
    """Host of the cluster's head."""
    return str(ray.get_runtime_context().gcs_address).rpartition(":")[0].strip("[]")


def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        _free_port(host, 0)
    except ConfigError:
        return False
    return True


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Let a proxy take as long to start as Serve waits for it in all: on a busy machine its own 5 s are not enough."""
    name = "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"  # read by Serve's controller, which inherits the environment
    if name in os.environ:
        yield
        return
    os.environ[name] = "60"
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM raise `Terminated`; Ray's own handler would end this process without taking anything away."""

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Serve's own lines in this process to warnings; the replicas' are in Ray's log folder."""
    logger = logging.getLogger("ray.serve")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
