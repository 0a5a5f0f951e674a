"""The Ray that workers live in: joined where one runs already, else embedded in this process and stopped with it.

An embedded Ray asks for a token made for it alone, so nobody else on the network can run code in it, and nothing is written to
the home folder (Ray's own default writes one there). A cluster that somebody else started is never stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.worker as ray_worker
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from scuba_ray.actors.last_words import last_words
from scuba_ray.errors import ConfigError

OBJECT_STORE_BYTES = 512 * 2**20
"""Shared memory of an embedded Ray: receipts, chunk descriptors, and the softmax states of two passes over a bank."""

REACH_SECONDS = 10.0
"""How long a cluster's head may take to accept a connection."""

_log = logging.getLogger(__name__)
_MODE, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


class Cluster:
    """A connection to Ray: `start` joins or embeds, `stop` undoes what `start` did and no more.

    Parameters
    ----------
    address : str, optional
        A running cluster, `auto` for the one of this machine. None embeds a Ray, unless the environment names a cluster
        (`RAY_ADDRESS`, as `ray job submit` sets it) or this process is connected to one already (a notebook).
    store : int
        Bytes of shared memory that an embedded Ray gets.
    """

    def __init__(self, address: str | None, store: int = OBJECT_STORE_BYTES) -> None:
        self._store = store
        self._asked_for = address
        self.address = address or os.environ.get("RAY_ADDRESS")
        self._undo = contextlib.ExitStack()

    def start(self) -> None:
        """Connect, and no more than once.

        Raises
        ------
        ConfigError
            If the cluster cannot be reached, does not let us in, or a Ray cannot be started here; or if this process is
            connected to another cluster than the one asked for.
        """
        if ray.is_initialized():
            if self._asked_for is not None:
                _check_same(self._asked_for, ray.get_runtime_context().gcs_address)
            return
        with contextlib.ExitStack() as undo:
            undo.enter_context(_credentials(embedded=self.address is None))
            undo.enter_context(_quiet())
            undo.enter_context(last_words())
            undo.callback(ray.shutdown)
            with _muted():
                if self.address is None:
                    _embed(self._store)
                else:
                    _join(self.address)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Disconnect, and stop the Ray that `start` embedded."""
        self._undo.close()


def _embed(store: int) -> None:
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=store,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises plain ones where its processes take too long to start
        raise ConfigError(f"cannot start Ray on this machine: {first_line(error)}; --engine local needs none") from error


def _join(address: str) -> None:
    check_reach(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises plain ones as well
        raise ConfigError(
            f"cannot join a Ray cluster at {address}: {first_line(error)}. Is it running and in reach? One that was "
            "started with a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (`ray get-auth-token` there)"
        ) from error


def _check_same(address: str, connected: str) -> None:
    """Raise ConfigError unless `address` is the cluster this process is connected to; `auto` is any."""
    if address == "auto":
        return
    found = check_reach(address)
    here, there = ((socket.gethostbyname(host), port) for host, port in (one.rsplit(":", 1) for one in (connected, found)))
    if here != there:
        raise ConfigError(
            f"this process is connected to the Ray cluster at {connected} already, not to {address}; leave that first"
        )


def check_reach(address: str) -> str:
    """Return host:port of the head that `address` means, in Ray's own form.

    Raises
    ------
    ConfigError
        If nothing answers there: Ray itself would try for many minutes, in silence.
    """
    if "://" in address:
        raise ConfigError(
            f"--address takes host:port of the cluster's head or `auto`, got {address}; from outside, use `ray job submit`"
        )
    try:
        found = canonicalize_bootstrap_address(address)
        if found is None:
            raise ConfigError("--address auto: no Ray cluster runs on this machine (`ray start --head` starts one)")
        host, port = found.rsplit(":", 1)
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
        return str(found)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot join a Ray cluster at {address}: {error}. Is it running and in reach?") from error


@contextlib.contextmanager
def _credentials(*, embedded: bool) -> Iterator[None]:
    """Token authentication for the time of a connection, unless the user set `RAY_AUTH_MODE`.

    An embedded Ray gets a token of its own. Joining follows Ray's rule: `auto` brings the token of this machine if there is one,
    an explicit address only with `RAY_AUTH_MODE=token` (a token shown to a cluster without them costs it its workers). Ray sets
    the mode for the whole process and reads it once, so afterwards the environment is put back and Ray told to read again.
    """
    if _MODE in os.environ:
        yield
        return
    token = os.environ.get(_TOKEN)
    if embedded:
        os.environ[_TOKEN] = secrets.token_hex(32)
        _read_again()
    try:
        yield
    finally:
        os.environ.pop(_MODE, None)
        if embedded:
            del os.environ[_TOKEN]
        if token is not None:
            os.environ[_TOKEN] = token
        _read_again()


def _read_again() -> None:
    """Make Ray forget the authentication settings it has read, as its own start-up does."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's own words off the terminal for the time of a connection; what it logs to files stays.

    Four ways out are closed: its logger, whose level `ray.init` sets for the whole process; notes on lost workers, which it
    prints on stdout, where results belong, and which go to our logger instead; pages on answers that nobody waits for any more
    when a step has failed; and its C++ side (see `_muted`).
    """
    logger, ignore = logging.getLogger("ray"), "RAY_IGNORE_UNHANDLED_ERRORS"
    level, printer, ignored = logger.level, ray_worker.print_to_stdstream, os.environ.get(ignore)
    ray_worker.print_to_stdstream = _log_notes
    os.environ[ignore] = "1"
    try:
        yield
    finally:
        if ignored is None:
            del os.environ[ignore]
        ray_worker.print_to_stdstream = printer
        logger.setLevel(level)


def _log_notes(data: dict[str, Any], ignore_prefix: bool) -> None:
    for line in data["lines"]:
        _log.info("Ray: %s", line)


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """While Ray starts, set its C++ side to fatal errors only, which it announces on stderr, so that goes nowhere meanwhile.

    Otherwise the first pool of every run writes an error about restarts that Ray Data's own actors cause. Set
    `RAY_BACKEND_LOG_LEVEL` to see everything.
    """
    name = "RAY_BACKEND_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        os.environ[name] = "fatal"
        yield
    finally:
        os.environ.pop(name, None)
        os.dup2(stderr, 2)
        os.close(stderr)


def first_line(error: BaseException) -> str:
    """What an error of Ray's says, without the pages that follow."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
