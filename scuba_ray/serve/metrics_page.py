"""GET /metrics: what this project and Ray Serve count, from the Prometheus endpoint of every node, as one page.

Ray's own agents have more (and are what a cluster's Prometheus should read); this page is for who reaches the service only.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterable
from typing import Any

import ray
from starlette.responses import Response

FAMILIES = ("ray_scuba_", "ray_serve_")
TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = 5.0
_BYTES = 1 << 25
# addresses of nodes are the cluster's own: a proxy of the environment is not asked
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def metrics() -> Response:
    """The page. A node that does not answer is named in a comment, and the others' numbers are given."""
    nodes = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"]]
    found = await asyncio.gather(*(asyncio.to_thread(_page, node) for node in nodes))
    pages = [page for page in found if page is not None]
    silent = [node["NodeID"] for node, page in zip(nodes, found, strict=True) if page is None]
    notes = "".join(f"# node {name} did not answer within {_SECONDS:g} s\n" for name in silent)
    return Response(notes + merged(pages), media_type=TYPE)


def _page(node: dict[str, Any]) -> str | None:
    """What a node's agent says; None where it has none, or it does not answer."""
    host, port = node["NodeManagerAddress"], node["MetricsExportPort"]
    if not port:
        return None
    address = f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"
    try:
        with _OPENER.open(address, timeout=_SECONDS) as answer:
            text: str = answer.read(_BYTES).decode("utf-8", "replace")
    except OSError:  # URLError, and timeouts while reading
        return None
    return text


def merged(pages: Iterable[str], families: tuple[str, ...] = FAMILIES) -> str:
    """Pages of Prometheus text as one: a family's description once, its samples from all pages below; other families left out."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for page in pages:
        family, first = "", False
        for line in page.splitlines():
            word, _, rest = line.partition(" ")
            if word == "#":
                kind, _, rest = rest.partition(" ")
                if kind not in {"HELP", "TYPE"}:
                    continue
                name = rest.partition(" ")[0]
                if name != family:
                    family, first = name, name not in heads
                    heads.setdefault(name, [])
                    samples.setdefault(name, [])
                if first:
                    heads[name].append(line)
            elif family and line:
                samples[family].append(line)
    lines = [line for name in heads if name.startswith(families) for line in (*heads[name], *dict.fromkeys(samples[name]))]
    return "".join(f"{line}\n" for line in lines)
