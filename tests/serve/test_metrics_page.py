"""One page of metrics out of many: families once, samples of all nodes."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scuba_ray.serve import metrics_page

NODE = """# HELP ray_serve_num_requests The number of requests.
# TYPE ray_serve_num_requests counter
ray_serve_num_requests{{node="{0}",route="/v1/query"}} {1}.0
# HELP ray_node_cpu Cores.
# TYPE ray_node_cpu gauge
ray_node_cpu{{node="{0}"}} 2.0
# HELP ray_scuba_seconds Seconds.
# TYPE ray_scuba_seconds histogram
ray_scuba_seconds_bucket{{node="{0}",le="1.0"}} 1.0
ray_scuba_seconds_bucket{{node="{0}",le="+Inf"}} 2.0
ray_scuba_seconds_count{{node="{0}"}} 2.0
ray_scuba_seconds_sum{{node="{0}"}} 3.0
"""


def test_pages_are_merged_family_by_family() -> None:
    text = metrics_page.merged([NODE.format("a", 1), NODE.format("b", 2), ""])
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {"ray_serve_num_requests", "ray_scuba_seconds"}
    assert [sample.value for sample in families["ray_serve_num_requests"].samples] == [1, 2]
    assert len(families["ray_scuba_seconds"].samples) == 8
    assert text.count("# TYPE ray_serve_num_requests") == text.count("# HELP ray_scuba_seconds") == 1


def test_the_same_page_twice_counts_once() -> None:
    assert metrics_page.merged([NODE.format("a", 1)] * 2) == metrics_page.merged([NODE.format("a", 1)])


@pytest.fixture
def agent() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(NODE.format("a", 7).encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


async def _page() -> str:
    return bytes((await metrics_page.metrics()).body).decode()


def test_a_node_that_does_not_answer_is_named_and_costs_nothing_else(agent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def node(name: str, port: int, alive: bool = True) -> dict[str, object]:
        return {"NodeID": name, "Alive": alive, "NodeManagerAddress": "127.0.0.1", "MetricsExportPort": port}

    nodes = [node("good", agent), node("closed", 1), node("none", 0), node("dead", agent, alive=False)]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    text = asyncio.run(_page())
    assert "ray_serve_num_requests" in text and 'node="a"' in text
    assert [line for line in text.splitlines() if "did not answer" in line] == [
        "# node closed did not answer within 5 s", "# node none did not answer within 5 s",
    ]  # fmt: skip
    assert list(text_string_to_metric_families(text))
