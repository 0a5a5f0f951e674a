"""One driver per run folder, by a lock that a killed driver cannot leave behind.

On a disk it is `flock`: the system lets go of it when the process ends, however it ends. Elsewhere (object stores, and disks
whose server knows no locks) it is a lease: a file that names its owner and when it expires, renewed by a thread. A lease is
taken by writing it and reading it back after a pause, since object stores know no exclusive creation through pyarrow.fs;
clocks of the machines that share a folder must agree to a few seconds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scuba_ray.errors import ConfigError, WorkerError
from scuba_ray.tables import files

LEASE_SECONDS = 60.0
"""How long a lease outlives the driver that held it; it is renewed four times as often."""
SETTLE_SECONDS = 1.0
"""Pause before a new lease is read back: of two drivers that write at once, the later one's stays."""
NAME = ".lock"

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def hold(location: str, *, lease: float = LEASE_SECONDS, settle: float = SETTLE_SECONDS) -> Iterator[None]:
    """Hold the folder of a run or a bank at `location` (normalised) for this process.

    Raises
    ------
    ConfigError
        If another driver holds it; the message names host and process.
    WorkerError
        At the end, if a lease was lost meanwhile (a machine that slept, a store out of reach).
    """
    if not files.is_local(location):
        with _leased(location, lease, settle):
            yield
        return
    handle = _open(location)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _held(location, _owner(os.pread(handle, 4096, 0)), "wait for it or stop it") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with _leased(location, lease, settle):
                yield
            return
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(files.whoami()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _open(location: str) -> int:
    """The lock file's descriptor: not inherited by child processes, which must not keep the lock alive."""
    try:
        Path(location).mkdir(parents=True, exist_ok=True)
        return os.open(Path(location) / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write to the folder {location}: {error.strerror}; choose another") from error


def _owner(data: bytes) -> dict[str, Any]:
    """What a lock file says; nothing if its writer was cut off."""
    try:
        owner = json.loads(data)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _held(location: str, owner: dict[str, Any], advice: str) -> ConfigError:
    who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
    return ConfigError(f"the folder {location} is in use by {who}; {advice}, or choose another")


@contextlib.contextmanager
def _leased(location: str, lease: float, settle: float) -> Iterator[None]:
    me = {**files.whoami(), "owner": uuid.uuid4().hex}
    _refuse_if_leased(location, me)
    _renew(location, me, lease)
    time.sleep(settle)
    _refuse_if_leased(location, me)
    stop, lost = threading.Event(), threading.Event()
    keeper = threading.Thread(target=_keep, args=(location, me, lease, stop, lost), name="scuba-lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()
        if not lost.is_set():
            files.delete(location, NAME)
    if lost.is_set():
        raise WorkerError(
            f"the lease on {location} was lost while it was written to; what is finished is kept, run again to check"
        )


def _current(location: str) -> dict[str, Any]:
    try:
        return _owner(files.read(location, NAME))
    except FileNotFoundError:
        return {}


def _refuse_if_leased(location: str, me: dict[str, Any]) -> None:
    holder = _current(location)
    left = float(holder.get("expires", 0.0)) - time.time()
    if holder.get("owner") != me["owner"] and left > 0:
        raise _held(location, holder, f"wait for it (if it was killed, its lease ends in {left:.0f} s)")


def _renew(location: str, me: dict[str, Any], lease: float) -> None:
    files.write(location, NAME, json.dumps({**me, "expires": time.time() + lease}).encode())


def _keep(location: str, me: dict[str, Any], lease: float, stop: threading.Event, lost: threading.Event) -> None:
    """Renew until told to stop. A store that fails is tried again until the lease has run out, then it is lost."""
    renewed = time.monotonic()
    while not stop.wait(lease / 4):
        try:
            if _current(location).get("owner") == me["owner"]:
                _renew(location, me, lease)
                renewed = time.monotonic()
                continue
        except OSError:
            if time.monotonic() - renewed < lease:
                continue
        lost.set()
        return
