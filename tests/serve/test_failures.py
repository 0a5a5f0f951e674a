"""What a client is told, exception by exception, and what it is not told."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, RequestCancelledError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from scuba_ray.config.serve import ServeConfig
from scuba_ray.errors import ConfigError, ContractError, DataError
from scuba_ray.serve.failures import NotThere, failure, unwrapped, without_places
from scuba_ray.serve.protection import protect

TRACE = 'Traceback (most recent call last):\n  File "/srv/secret.py", line 1\nBoom: /srv/secret.py'


def wrapped(error: Exception, times: int = 2) -> Exception:
    """As it arrives from a deployment that got it from another deployment."""
    for _ in range(times):
        error = RayTaskError("call", TRACE, error, "proc", 1, "127.0.0.1").as_instanceof_cause()
    return error


CASES = [
    (ConfigError("k must be >= 1, got 0"), 422, "k must be >= 1, got 0", None),
    (DataError("table captions: checksum of part-0 differs"), 500, "checksum of part-0 differs", None),
    (NotThere("this run has no voxel 7"), 404, "no voxel 7", None),
    (BackPressureError(4, 4), 503, "busy", 1),
    (BackPressureError(4, 4, retry_after_s=2.2), 503, "busy", 3),
    (ActorDiedError(), 503, "lost", 5),
    (WorkerCrashedError(), 503, "lost", 5),
    (RequestCancelledError("r"), 503, "lost", 5),
    (TimeoutError(), 504, "too long", None),
    (GetTimeoutError("in 3 s"), 504, "too long", None),
    (ContractError("caption got a table without 'embedding'"), 500, "failed", None),
    (ZeroDivisionError("division by zero"), 500, "failed", None),
]


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize(("error", "status", "words", "retry"), CASES, ids=lambda case: getattr(case, "__class__", case).__name__)
def test_exceptions_have_a_status_and_a_sentence(
    error: Exception, status: int, words: str, retry: int | None, times: int
) -> None:
    told = failure(wrapped(error, times))
    assert (told.status, told.retry_after) == (status, retry)
    assert words in told.error and "Traceback" not in told.error and "secret" not in told.error


def test_what_ray_put_around_an_exception_is_taken_off() -> None:
    inner = ConfigError("inner")
    assert unwrapped(wrapped(inner, 3)) is inner
    assert unwrapped(inner) is inner


@pytest.mark.parametrize(
    "text",
    [
        "/data/lab one/run/tables/voxels is damaged",
        "cannot reach s3://bucket/private/run: no such key",
        "'/etc/passwd' cannot be read",
        "~/.ssh/id_rsa",
        "file:" + "///srv/run/x",
        f"in {Path.home()}/x and {Path.cwd()}/y",
        "(/opt/a/b.py)",
    ],
)
def test_no_sentence_names_a_place_on_the_server(text: str) -> None:
    told = without_places(text, ["/data/lab one/run"])
    for secret in ("lab", "run", "bucket", "passwd", "id_rsa", str(Path.home()), str(Path.cwd()), "opt"):
        assert secret not in told, told


@pytest.mark.parametrize("text", ["km/h and either/or", "a ratio of 1/2, see limits.items", "voxels[3]: wanted 0..9, got -1"])
def test_other_sentences_stay_as_they_are(text: str) -> None:
    assert without_places(text, ["/data/run"]) == text


class Asked(BaseModel):
    number: float = Field(allow_inf_nan=False)
    text: str = Field("", max_length=5)


def app(error: Exception | None = None) -> TestClient:
    served = FastAPI()

    @served.post("/v1/do")
    async def do(asked: Asked) -> dict[str, float]:
        if error is not None:
            raise error
        return {"number": asked.number}

    protect(served, ServeConfig(run="/data/run"))
    return TestClient(served)


@pytest.mark.parametrize(("error", "status", "words", "retry"), CASES, ids=lambda case: getattr(case, "__class__", case).__name__)
def test_an_endpoint_that_raises_is_answered_in_json(
    error: Exception, status: int, words: str, retry: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    arrived = cloudpickle.loads(cloudpickle.dumps(wrapped(error)))  # on its way it loses attributes
    answer = app(arrived).post("/v1/do", json={"number": 1}, headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request_id"} and answer.json()["request_id"] == "abc-1"
    assert answer.headers["X-Request-ID"] == "abc-1"
    assert answer.headers.get("Retry-After") == (None if retry is None else str(retry))
    if status == 500:
        assert "abc-1" in caplog.text and "secret.py" in caplog.text, "the log has the trace that the client has not"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"", 422),
        (b"[" * 100_000, 400),
        (b'{"number": 1' + b"0" * 10_000 + b"}", 400),
        (b'{"number": 1e999}', 422),
        (b'{"number": NaN}', 422),
        (b'{"number": -Infinity}', 422),
        (b'\xff\xfe{"number": 1}', 400),
        (b'{"number": 1, "text": "\\ud800"}', 422),
        (b'{"number": 1, "text": "\\u0000aaaaaaaaaaaaaa"}', 422),
        (b'{"number": {"\xf0\x9f\x98\x80": []}}', 422),
        (b"null", 422),
        (b'"number"', 422),
    ],
)
def test_a_body_that_does_not_fit_is_refused_in_words_and_not_repeated(body: bytes, status: int) -> None:
    answer = app().post("/v1/do", content=body, headers={"Content-Type": "application/json", "X-Request-ID": "r-1"})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "request_id"}
    assert len(answer.text) < 1000 and "aaaa" not in answer.text


def test_unknown_paths_and_methods_have_the_same_form() -> None:
    client = app()
    for answer, status in ((client.get("/nothing"), 404), (client.get("/v1/do"), 405), (client.head("/v1/do"), 405)):
        assert answer.status_code == status and answer.headers["X-Request-ID"]
    assert set(client.get("/nothing").json()) == {"error", "request_id"}
    assert client.get("/v1/do").headers["Allow"] == "POST"


def test_an_http_exception_keeps_its_headers() -> None:
    answer = app(HTTPException(406, "no", {"X-More": "1"})).post("/v1/do", json={"number": 1})
    assert (answer.status_code, answer.json()["error"], answer.headers["X-More"]) == (406, "no", "1")
