"""How fast `scuba serve` answers POST /v1/caption on a finished run: a closed loop of HTTP clients over loopback.

    scuba demo --out runs/demo
    python benchmarks/serve.py --run runs/demo --out benchmarks/results/serve.json

Starts the service (one replica of each deployment, sizes and waits as they are by default), asks for a while at each number of
clients, then ends it. A client sends its next request when it has the answer of the last. `voxels` asks for captions of the run
by voxel id (all methods: a look-up in its tables), `weights` sends weight vectors, which are projected and captioned now; lists
are of one and of many. Bodies are JSON, made beforehand; answers are read to the end and held against the run's captions: `wrong`
is how many differ. Times are of whole requests, milliseconds; the client shares the machine with the service.
`--note` says what else the machine did.
"""

from __future__ import annotations

import _report

settings = _report.arguments(__doc__, threads=1, run="", seconds=15.0, most=64, clients="1,16,64", warm=2.0, note="")

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import aiohttp  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

from scuba_ray.config import make_config  # noqa: E402
from scuba_ray.tables.columns import matrix  # noqa: E402
from scuba_ray.tables.schemas import WHOLE_BANK  # noqa: E402
from scuba_ray.tables.store import RunFolder  # noqa: E402
from scuba_ray.tables.ways import METHOD  # noqa: E402

BODIES = 64
"""Different requests that a client goes through."""
END_SECONDS = 120


@dataclass(frozen=True)
class Body:
    """A request, and the captions it has to be answered with."""

    data: bytes
    captions: list[str]


@dataclass
class Measured:
    """What came of one number of clients."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0

    def figures(self, took: float, items: int) -> dict[str, Any]:
        """Of the requests that were answered 200."""
        good = self.statuses[200]
        p50, p99 = (np.percentile(self.seconds, [50, 99]) * 1e3).tolist() if good else (None, None)
        return {
            "p50_ms": p50,
            "p99_ms": p99,
            "requests_per_second": good / took,
            "captions_per_second": good * items / took,
            "requests": good,
            "refused": {str(status): count for status, count in self.statuses.items() if status != 200},
            "wrong": self.wrong,
        }


def bodies(run: RunFolder, key: str, items: int) -> dict[str, list[Body]]:
    """Requests for voxels at random, by id and by weights."""
    subject = key.partition("/")[0]
    voxels = run.read("voxels", key=key, columns=["voxel_id", "status", "weight"])
    voxels = voxels.filter(pc.equal(voxels["status"], "ok"))
    captions = run.read("captions", key=key, columns=["voxel_id", "partition", "method", "rank", "caption"])
    own = pc.and_(pc.equal(captions["method"], METHOD), pc.equal(captions["partition"], WHOLE_BANK))
    captions = captions.filter(pc.and_(own, pc.equal(captions["rank"], 0)))
    said = dict(zip(captions["voxel_id"].to_pylist(), captions["caption"].to_pylist(), strict=True))
    ids, weight_VD = np.array(voxels["voxel_id"].to_pylist()), matrix(voxels["weight"])
    rng = np.random.default_rng(items)
    made: dict[str, list[Body]] = {"voxels": [], "weights": []}
    for _ in range(BODIES):
        chosen = rng.choice(len(ids), items, replace=items > len(ids))
        wanted = [said[voxel] for voxel in ids[chosen].tolist()]
        for kind, values in (("voxels", ids[chosen].tolist()), ("weights", weight_VD[chosen].tolist())):
            content = {kind: values, "subject": subject} if kind == "voxels" else {kind: values}
            made[kind].append(Body(json.dumps(content).encode(), wanted))
    return made


async def measure(url: str, asked: list[Body], clients: int, seconds: float) -> tuple[Measured, float]:
    """Ask for some seconds; requests under way at the end are waited for and count."""
    found = Measured()
    began = time.perf_counter()
    timeout, connector = aiohttp.ClientTimeout(total=300), aiohttp.TCPConnector(limit=clients)
    headers = {"Content-Type": "application/json"}

    async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=headers) as session:

        async def client(number: int) -> None:
            place = number * 7
            while time.perf_counter() - began < seconds:
                body, place = asked[place % len(asked)], place + 1
                start = time.perf_counter()
                async with session.post(f"{url}v1/caption", data=body.data) as response:
                    answer = await response.read()
                found.statuses[response.status] += 1
                if response.status == 200:
                    found.seconds.append(time.perf_counter() - start)
                    found.wrong += captions_in(answer) != body.captions
                else:
                    await asyncio.sleep(float(response.headers.get("Retry-After", 1)))

        await asyncio.gather(*map(client, range(clients)))
    return found, time.perf_counter() - began


def captions_in(answer: bytes) -> list[str]:
    rows = json.loads(answer)["rows"]
    return [row["caption"] for row in rows if (row["method"], row["partition"], row["rank"]) == (METHOD, WHOLE_BANK, 0)]


@contextlib.contextmanager
def service(run: str) -> Iterator[tuple[str, float]]:
    """`scuba serve` in a process of its own: its URL, and the seconds until it answered."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "scuba_ray", "serve", run, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("the service did not start; it said why above")
        yield url, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_SECONDS)


def main() -> None:
    run = RunFolder(settings.run)
    config = make_config(run.read_run_json()["config"])
    key = "/".join(run.keys("captions")[0].split("/")[:2])
    figures: dict[str, Any] = {}
    with service(settings.run) as (url, start):
        for items in (1, settings.most):
            for kind, asked in bodies(run, key, items).items():
                asyncio.run(measure(url, asked, 2, settings.warm))
                for clients in map(int, settings.clients.split(",")):
                    found, took = asyncio.run(measure(url, asked, clients, settings.seconds))
                    here = {f"{clients} clients": found.figures(took, items)}
                    figures.setdefault(f"{kind}, lists of {items}", {}).update(here)
                    print(kind, items, here, file=sys.stderr, flush=True)
    about = {
        "voxels": run.rows("voxels", key),
        "bank": sum(run.rows("bank", one) for one in run.keys("bank")),
        "backbones": [backbone.model for backbone in config.backbones],
        "captioner": config.caption.model,
        "methods": len(run.keys("captions")),
    }
    settings.run = Path(settings.run).name
    _report.report(settings, {}, start_seconds=start, run=about, caption=figures)


if __name__ == "__main__":
    main()
