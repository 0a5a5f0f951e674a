"""Requests that someone made up to do harm, and those that only look like it."""

from __future__ import annotations

import asyncio
import logging
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from scuba_ray.config.serve import LimitsConfig, ServeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.serve.protection import VALUES, protect

TOKEN = "correct-horse"
JSON = {"Content-Type": "application/json"}


def made(**settings: Any) -> FastAPI:
    app = FastAPI()
    app.state.seen = []

    @app.post("/v1/echo")
    async def echo(request: Request) -> dict[str, int]:
        body = await request.body()
        app.state.seen.append(len(body))
        return {"size": len(body)}

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"healthy": True}

    @app.get("/")
    async def page() -> dict[str, str]:
        return {"page": "secret"}

    @app.get("/v1/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    @app.get("/v1/breaks")
    async def breaks() -> StreamingResponse:
        async def parts() -> Any:
            yield b"begun"
            raise RuntimeError("/srv/secret")

        return StreamingResponse(parts())

    protect(app, ServeConfig(run="/data/run", **settings))
    return app


def client(**settings: Any) -> TestClient:
    return TestClient(made(**settings), raise_server_exceptions=False)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCUBA_SERVE_TOKEN", TOKEN)


# ------------------------------------------------------------------------------------------------------- sizes


def pieces(count: int, size: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b" " * size


def test_a_body_is_refused_by_its_length_before_it_is_read() -> None:
    app = client(limits=LimitsConfig(body_mib=0.001))
    answer = app.post("/v1/echo", content=b" " * 2000, headers=JSON)
    assert answer.status_code == 413 and "limits.body_mib" in answer.json()["error"]
    assert app.post("/v1/echo", content=b" " * 1000, headers=JSON).json() == {"size": 1000}


def test_a_body_without_length_is_refused_where_it_passes_the_limit() -> None:
    app = client(limits=LimitsConfig(body_mib=0.001))
    assert app.post("/v1/echo", content=pieces(20, 100), headers=JSON).status_code == 413
    assert app.post("/v1/echo", content=pieces(10, 100), headers=JSON).json() == {"size": 1000}


def call(app: FastAPI, messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]], **scope: Any) -> dict[str, Any]:
    """Below any HTTP library: what a server that checks nothing would hand on."""
    sent: list[Any] = []
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    asked = {
        "type": "http", "method": "POST", "path": "/v1/echo", "raw_path": b"/v1/echo", "query_string": b"", "headers": headers,
        "http_version": "1.1", "scheme": "http", "root_path": "", "client": None, "server": None, **scope,
    }  # fmt: skip
    asyncio.run(app(asked, receive, send))
    return {"status": sent[0]["status"], "headers": dict(sent[0]["headers"]), "body": b"".join(one["body"] for one in sent[1:])}


def test_a_length_that_lies_is_not_believed() -> None:
    app = made(limits=LimitsConfig(body_mib=0.001))
    parts = [{"type": "http.request", "body": b" " * 600, "more_body": True} for _ in range(3)]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"10")]
    assert call(app, parts, headers)["status"] == 413
    assert app.state.seen == []


@pytest.mark.parametrize("length", [b"-1", b"1e9", b"0x10", b"", b"9" * 400, "٣".encode()])
def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    assert call(made(), [], [(b"content-type", b"application/json"), (b"content-length", length)])["status"] == 400


def test_many_small_values_are_refused_before_they_are_made() -> None:
    answer = client().post("/v1/echo", content=b"[" + b"[]," * (VALUES // 2 + 1), headers=JSON)
    assert answer.status_code == 413 and "values" in answer.json()["error"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity, gzip", "br"])
def test_compressed_bodies_are_not_read(encoding: str) -> None:
    bomb = zlib.compress(b" " * 10_000_000)
    assert client().post("/v1/echo", content=bomb, headers={**JSON, "Content-Encoding": encoding}).status_code == 415


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "",
             "application/json; charset=utf-16", "text/plain; application/json"]
)  # fmt: skip
def test_other_content_types_are_refused(kind: str) -> None:
    assert client().post("/v1/echo", content=b"{}", headers={"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"])
def test_json_is_read_however_it_is_written(kind: str) -> None:
    assert client().post("/v1/echo", content=b"{}", headers={"Content-Type": kind}).status_code == 200


def test_two_content_types_are_refused() -> None:
    kinds = [(b"content-type", b"text/plain"), (b"content-type", b"application/json")]
    assert call(made(), [], kinds)["status"] == 415


# ------------------------------------------------------------------------------------------------------- time


def test_what_takes_too_long_is_answered_504() -> None:
    answer = client(limits=LimitsConfig(seconds=0.2)).get("/v1/slow")
    assert answer.status_code == 504 and "too long" in answer.json()["error"]


def test_a_body_that_never_ends_is_answered_504() -> None:
    app = made(limits=LimitsConfig(seconds=0.2))
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/echo", "query_string": b"", "root_path": "",
             "headers": [(b"content-type", b"application/json")]}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 504


def test_an_answer_that_breaks_off_is_not_finished_as_if_it_were_whole(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError):
        TestClient(made()).get("/v1/breaks")
    assert "broke off in mid-answer" in caplog.text


# ------------------------------------------------------------------------------------------------------- token


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/redoc", "/nothing", "/healthz/", "//healthz"])
def test_everything_but_health_asks_for_the_token(path: str) -> None:
    app = client()
    answer = app.get(path)
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "secret" not in answer.text
    assert app.get("/healthz").status_code == 200
    assert app.head(path).status_code == app.options(path).status_code == app.delete(path).status_code == 401


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}",
     "Bearer null", f"Bearer {TOKEN} {TOKEN}"],
)  # fmt: skip
def test_a_wrong_token_opens_nothing(shown: str) -> None:
    assert client().get("/", headers={"Authorization": shown}).status_code == 401


@pytest.mark.usefixtures("token")
def test_two_tokens_or_bytes_that_are_no_text_open_nothing() -> None:
    right = f"Bearer {TOKEN}".encode()
    for headers in ([(b"authorization", b"Bearer x"), (b"authorization", right)], [(b"authorization", b"Bearer \xff\xfe")]):
        assert call(made(), [], headers, method="GET", path="/")["status"] == 401


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_token_opens_the_service(shown: str) -> None:
    app = client()
    assert app.get("/", headers={"Authorization": shown}).json() == {"page": "secret"}
    assert app.post("/v1/echo", content=b"{}", headers={**JSON, "Authorization": shown}).status_code == 200


@pytest.mark.usefixtures("token")
def test_below_a_route_prefix_the_same_paths_are_open() -> None:
    app = made()
    for path, status in (("/lab/healthz", 200), ("/lab/", 401), ("/lab", 401), ("/lab/healthz/x", 401), ("/lab/../healthz", 401)):
        assert call(app, [], [], method="GET", path=path, root_path="/lab")["status"] == status


@pytest.mark.usefixtures("token")
def test_a_browser_gets_a_page_that_asks_for_the_token() -> None:
    answer = client().get("/", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 401 and answer.headers["Content-Type"].startswith("text/html")
    assert "asks for its token" in answer.text and "secret" not in answer.text


def test_the_token_travels_as_a_digest_only(token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = cloudpickle.dumps(made().user_middleware)
    assert TOKEN.encode() not in packed
    monkeypatch.delenv("SCUBA_SERVE_TOKEN")
    arrived = made()
    arrived.user_middleware = pickle.loads(packed)
    asked = TestClient(arrived)
    assert asked.get("/").status_code == 401, "where the variable is not set, the token is still asked for"
    assert asked.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("token", ["", "  ", "two words", "tökén", "a\x07b"])
def test_a_token_that_cannot_be_shown_is_refused_at_the_start(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCUBA_SERVE_TOKEN", token)
    with pytest.raises(ConfigError, match="SCUBA_SERVE_TOKEN"):
        made()


@pytest.mark.usefixtures("token")
def test_no_socket_goes_past_the_token() -> None:
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/v1/echo"):
        pass


# ------------------------------------------------------------------------------------------------------- origins


def preflight(app: TestClient, origin: str) -> Any:
    wants = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return app.options("/v1/echo", headers=wants)


def test_no_page_of_another_origin_may_call_by_default() -> None:
    app = client()
    assert preflight(app, "https://lab.example").status_code == 405
    answer = app.post("/v1/echo", content=b"{}", headers={**JSON, "Origin": "https://lab.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.usefixtures("token")
def test_pages_of_named_origins_may_call_and_read_errors() -> None:
    app = client(origins=("https://lab.example",))
    assert preflight(app, "https://lab.example").headers["Access-Control-Allow-Origin"] == "https://lab.example"
    assert "Access-Control-Allow-Origin" not in preflight(app, "https://evil.example").headers
    assert "Access-Control-Allow-Origin" not in preflight(app, "null").headers
    answer = app.post("/v1/echo", content=b"{}", headers={**JSON, "Origin": "https://lab.example"})
    assert answer.status_code == 401 and answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["*", "https://*.example", "https://lab.example/", "lab.example", "https://a b", "null"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="origins"):
        ServeConfig(run="run", origins=(origin,))


# ------------------------------------------------------------------------------------------------------- ids and log lines


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="ray.serve")
    return caplog


def test_a_log_line_says_id_method_path_status_and_seconds(lines: pytest.LogCaptureFixture) -> None:
    answer = client().post("/v1/echo?text=private", content=b'"a secret"', headers={**JSON, "X-Request-ID": "trial_7.a-b"})
    assert answer.headers["X-Request-ID"] == "trial_7.a-b"
    (line,) = [record.getMessage() for record in lines.records]
    assert line.startswith("request trial_7.a-b POST /v1/echo 200 ") and line.endswith(" s")
    assert "private" not in lines.text and "secret" not in lines.text


@pytest.mark.usefixtures("token")
def test_refused_requests_are_logged_without_what_they_showed(lines: pytest.LogCaptureFixture) -> None:
    client().get("/", headers={"Authorization": "Bearer guess-1"})
    assert " GET / 401 " in lines.text and "guess" not in lines.text


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "a;b", "<script>", "é", "-rf", "a\tb"])
def test_an_id_that_is_none_is_replaced(sent: str) -> None:
    answer = call(made(), [], [(b"x-request-id", sent.encode())], method="GET", path="/healthz")
    assert len(answer["headers"][b"x-request-id"]) == 32


def test_lines_cannot_be_forged(lines: pytest.LogCaptureFixture) -> None:
    headers = [(b"x-request-id", b"a\r\nSet-Cookie: x=1")]
    answer = call(made(), [], headers, method="GET\nrequest x", path="/a\nrequest forged GET / 200" + "y" * 1000)
    assert b"set-cookie" not in answer["headers"] and b"\r" not in answer["headers"][b"x-request-id"]
    (record,) = lines.records
    assert "\n" not in record.getMessage() and len(record.getMessage()) < 500


def test_every_answer_says_that_its_type_is_meant() -> None:
    app = client()
    for path in ("/healthz", "/nothing", "/"):
        answer = app.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-store"


def test_ids_of_requests_beside_each_other_differ() -> None:
    app = client()
    assert len({app.get("/healthz").headers["X-Request-ID"] for _ in range(20)}) == 20


HOSTS = [
    ("127.0.0.1", 200), ("[::1]:8000", 200), ("localhost:8000", 200), ("LOCALHOST", 200), ("lab.example:80", 200),
    ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:8000", 421), ("[", 421), ("", 421),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_a_page_whose_name_was_pointed_here_reads_nothing(host: str, status: int) -> None:
    client = TestClient(made(hosts=["lab.example"]))
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == status
    assert status == 200 or set(answer.json()) == {"error", "request_id"}


def test_without_hosts_every_name_is_answered() -> None:
    assert TestClient(made()).get("/", headers={"Host": "evil.example"}).status_code == 200
    with pytest.raises(ValidationError):
        ServeConfig(run="/data/run", hosts=("https://lab.example",))
