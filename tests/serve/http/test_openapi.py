"""Requests made up from the OpenAPI document, and by someone who means harm, over real HTTP: none is answered 500."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from tests.serve.serving import Served

EXAMPLES = 15
"""Requests made up for each endpoint; thousands, by hand: `schemathesis run URL/openapi.json`."""
JSON = "application/json"


@pytest.fixture(scope="module")
def api(served: Served) -> Any:
    answer = served.client.get("openapi.json")
    assert answer.status == 200
    return schemathesis.openapi.from_dict(answer.json)


@pytest.fixture(scope="module")
def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False  # loopback needs no proxy
    return made


def check_words(served: Served, status: int, kind: str, text: str) -> None:
    """What every failed request is told, and what none is."""
    assert "Traceback" not in text and served.run.location not in text and "site-packages" not in text
    if status >= 400:
        assert kind.startswith(JSON), (status, kind, text)
        assert {"error", "request_id"} == set(json.loads(text)), text


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_is_answered_500(api: Any, mode: GenerationMode, served: Served, session: requests.Session) -> None:
    """Requests that fit the document, and requests that do not."""
    answered: dict[str, list[int]] = {}
    for found in api.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            response = case.call(base_url=served.client.url.rstrip("/"), session=session, timeout=120)
            case.validate_response(response, checks=[not_a_server_error])
            kind, text = response.headers.get("content-type", [""])[0], response.content.decode("utf-8", "replace")
            check_words(served, response.status_code, kind, text)
            answered.setdefault(case.operation.label, []).append(response.status_code)

        try:
            check()
        except Unsatisfiable:
            # an endpoint without parameters has no request that does not fit
            assert mode is GenerationMode.NEGATIVE and operation.label.startswith("GET "), operation.label
    posts = {label: statuses for label, statuses in answered.items() if label.startswith("POST ")}
    assert len(posts) == 6 and all(len(statuses) >= EXAMPLES // 2 for statuses in posts.values()), answered


def raw(served: Served, body: Any, *, path: str = "/v1/query", method: str = "POST", **headers: str) -> tuple[int, str, str]:
    """One request by `http.client`, which sends what it is told; returns status, content type and text."""
    connection = http.client.HTTPConnection(urlsplit(served.client.url).netloc, timeout=120)
    named = {"Content-Type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("Content-Type") or "", text


QUERY = '{"texts": ["food"], "limit": %s}'
HOSTILE: list[tuple[int, Any, dict[str, str]]] = [
    (422, b"", {}),
    (422, b"{", {}),
    (400, b"[" * 200_000, {}),
    (400, b'{"texts": ["\xff"]}', {}),
    (422, b'{"texts": ["\\ud800"], "limit": 1}', {}),
    (422, (QUERY % "NaN").encode(), {}),
    (422, (QUERY % "1e400").encode(), {}),
    (422, (QUERY % ("9" * 4000)).encode(), {}),
    (400, (QUERY % ("9" * 5000)).encode(), {}),
    (422, (QUERY % 2**63).encode(), {}),
    (422, b'{"texts": ["food"], "subject": "../../etc/passwd"}', {}),
    (422, json.dumps({"texts": ["food"] * 10_000}).encode(), {}),
    (422, json.dumps({"texts": ["x" * 100_000]}).encode(), {}),
    (413, b"[" + b"{}," * 1_100_000, {}),
    (413, b" " * (33 << 20), {}),
    (413, iter([b" " * (1 << 20)] * 33), {"Transfer_Encoding": "chunked"}),
    (415, b"\x1f\x8b", {"Content_Encoding": "gzip"}),
    (415, b"texts=food", {"Content_Type": "application/x-www-form-urlencoded"}),
]


@pytest.mark.parametrize(("status", "body", "headers"), HOSTILE)
def test_hostile_bodies_are_refused_in_words(served: Served, status: int, body: Any, headers: dict[str, str]) -> None:
    got, kind, text = raw(served, body, **headers)
    assert got == status or (got == 404 and b"subject" in body), text
    check_words(served, got, kind, text)
    assert len(text) < 2000


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/voxels/%00", "/v1/voxels/..%2f..", "//etc/passwd",
             "/v1/query/", "/%ff%fe"]
)  # fmt: skip
def test_odd_paths_lead_nowhere(served: Served, path: str) -> None:
    status, _, text = raw(served, None, path=path, method="GET")
    assert 300 <= status < 500 and "root:" not in text


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", "/v1/query"), ("OPTIONS", "/v1/query"), ("DELETE", "/"), ("PUT", "/v1/runs"), ("TRACE", "/")]
)
def test_other_methods_are_refused(served: Served, method: str, path: str) -> None:
    assert raw(served, None, path=path, method=method)[0] in {400, 405, 415}


def test_a_header_cannot_be_put_into_answers(served: Served) -> None:
    place = urlsplit(served.client.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(
            b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: a%0d%0aSet-Cookie: x\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nset-cookie" not in head and head.startswith(b"http/1.1 200")


def test_ids_are_in_answers_once(served: Served) -> None:
    answer = served.client.get("v1/voxels/987654321", **{"X-Request-ID": "trial-1"})
    assert answer.status == 404 and answer.json["request_id"] == "trial-1"
    assert [value for name, value in answer.headers.items() if name.lower() == "x-request-id"] == ["trial-1"]


def test_the_page_has_its_box_and_health_and_metrics_answer(served: Served) -> None:
    page = served.client.get("/")
    assert page.status in {200, 404}
    assert page.status == 404 or b'data-service="v1/query"' in page.body
    assert served.client.get("healthz").json["healthy"] is True
    assert served.client.get("metrics").status == 200
