"""`scuba serve` in a process of its own, and a client that speaks real HTTP to it over loopback."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from scuba_ray.config import RunConfig
from scuba_ray.serve.answers import ARROW
from scuba_ray.tables.store import RunFolder

ROOT = Path(__file__).parents[2]
START_SECONDS, END_SECONDS, ANSWER_SECONDS = 400, 120, 120
SMALL = [
    f"--set={name}.cpus=0.05" for name in ("ingress", "subjects", "encoder", "projector", "captioner", "nearest", "synthesis")
]
"""Settings with which a service fits beside other tests."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rows(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        rows: list[dict[str, Any]] = self.json["rows"]
        return rows

    @property
    def table(self) -> pa.Table:
        assert self.status == 200, self.body
        return pa.ipc.open_stream(io.BytesIO(self.body)).read_all()


@dataclass(frozen=True)
class Client:
    """A service's URL, asked over HTTP."""

    url: str

    def get(self, path: str, **headers: str) -> Answer:
        return self._send(urllib.request.Request(self.url + path.lstrip("/"), headers=headers))

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        return self._send(urllib.request.Request(self.url + path.lstrip("/"), data, headers))

    def table(self, path: str, body: Any) -> pa.Table:
        """The answer as an Arrow table."""
        return self.post(path, body, Accept=ARROW).table

    def _send(self, request: urllib.request.Request) -> Answer:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())


@dataclass(frozen=True)
class Served:
    """A finished run and the service that answers for it."""

    client: Client
    run: RunFolder
    config: RunConfig


def environment(**variables: str) -> dict[str, str]:
    """This process's, without the token of a Ray that it may have embedded, and with further variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_A", "SCUBA_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), **variables}


class Process:
    """`scuba serve` with these arguments; `stop` ends it as a terminal or a system would."""

    def __init__(self, *arguments: str, errors: Path, **variables: str) -> None:
        self.errors = errors
        with errors.open("wb") as stderr:
            # where a script started the tests in the background SIGINT is ignored, and that is handed on
            command = ["env", "--default-signal=INT", sys.executable, "-m", "scuba_ray", "serve", *arguments]
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=environment(**variables), cwd=ROOT, text=True
            )

    def url(self) -> str:
        """Wait until it serves. Fails with what it said if it ends or takes too long."""
        assert self.process.stdout is not None
        line = _line(self.process.stdout, START_SECONDS)
        assert line.startswith("http://"), f"{line!r}\n{self.said()}"
        return line.strip()

    def said(self) -> str:
        return self.errors.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_SECONDS)

    def end(self) -> None:
        """Leave nothing behind, however a test ended."""
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _line(stream: IO[str], seconds: float) -> str:
    readable, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if readable else "nothing in time"


def wait_for(what: Any, seconds: float = 60.0) -> Any:
    """Poll until `what()` is true; return it."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > end:
            assert found, f"not within {seconds:g} s"
            return found
        time.sleep(0.2)
