"""What tests of several nodes share: clusters and drivers as processes, and a timeline of what they saw."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

WITHOUT_TOKEN = {"RAY_AUTH_MODE": "disabled"}
"""Whatever Ray this process may have embedded, its token is not for other clusters."""


class Timeline:
    """Seconds since the start, and what happened; printed as it goes (pytest -s shows it)."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def say(self, event: str) -> float:
        """Print an event; returns its time."""
        seconds = time.monotonic() - self.began
        print(f"{seconds:6.1f} s: {event}", flush=True)
        return seconds

    def wait(
        self, until: Callable[[], bool], event: str, running: subprocess.Popen[str] | None = None, seconds: float = 240
    ) -> float:
        """Wait for something and say when it happened; not for ever, and no longer than `running` runs."""
        deadline = time.monotonic() + seconds
        while not until():
            assert running is None or running.poll() is None, f"it ended before: {event}\n{running.communicate()}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {event}"
            time.sleep(0.05)
        return self.say(event)


@contextlib.contextmanager
def process(command: list[str], seconds: float = 30, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes, which has some seconds to end with its input; what it left behind is killed with it."""
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **settings)
    try:
        yield started
    finally:
        family = (
            [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)] if started.poll() is None else []
        )
        assert started.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            started.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(seconds)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        started.wait()


class Nodes:
    """A cluster that somebody else started, and whose nodes this test may add and kill."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running
        self.address, self.head = self._line().split()

    def add(self, cpus: int = 1, gpus: int = 0) -> str:
        """Start a node; returns its id."""
        return self._ask(f"add {cpus} {gpus}")

    def kill(self, node: str) -> None:
        """End all processes of a node at once."""
        assert self._ask(f"kill {node}") == node

    def _ask(self, line: str) -> str:
        assert self._running.stdin is not None
        print(line, file=self._running.stdin, flush=True)
        return self._line()

    def _line(self) -> str:
        assert self._running.stdout is not None
        line = self._running.stdout.readline().strip()
        assert line, "the cluster's process has ended"
        return line


@contextlib.contextmanager
def cluster(head_cpus: int = 0, **environment: str) -> Iterator[Nodes]:
    """A cluster of a head alone."""
    variables = {**os.environ, **WITHOUT_TOKEN, **environment}
    command = [sys.executable, "-m", "tests.multinode.nodes", str(head_cpus)]
    with process(command, stderr=subprocess.DEVNULL, env=variables) as running:
        yield Nodes(running)


@contextlib.contextmanager
def driver(asked: dict[str, Any], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A driver of the sample stages (`samples.work`)."""
    command = [sys.executable, "-m", "tests.multinode.samples", json.dumps(asked)]
    with process(command, stderr=subprocess.PIPE, env={**os.environ, **WITHOUT_TOKEN, **environment}) as running:
        yield running


def answer(running: subprocess.Popen[str], seconds: float = 180) -> dict[str, Any]:
    """What a driver says at its end."""
    out, errors = running.communicate(timeout=seconds)
    assert out, errors
    said: dict[str, Any] = json.loads(out)
    return said
