"""What a client is told when a request fails: a status and one sentence, never a stack trace or where files lie on the server.

An exception of a deployment arrives wrapped by Ray, as often as it was handed on; what counts is the innermost one.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from scuba_ray.errors import ConfigError, DataError

LOGGER = logging.getLogger("ray.serve")
"""Serve's own logger, so that what is logged here lies in the replica's log files with the rest of a request."""
LOST_SECONDS = 5
"""Seconds after which a client may try again when a replica was lost: about what a new one takes to start."""
FULL_SECONDS = 1
"""Seconds after which a client may try again when queues are full, where Serve names no time of its own."""

_LOST = (
    RayActorError, WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError, OutOfMemoryError,
    TaskCancelledError, DeploymentUnavailableError, ReplicaUnavailableError,
)  # fmt: skip
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\",;]+|(?<![\w.~/-])~?/[\w.@+~%=-]+(?:/[\w.@+~%=-]*)+")
_SAYS_NO_PLACE = "[a place on the server]"


class NotThere(ConfigError):  # noqa: N818
    """A voxel, subject or file that the run does not have: the client's 404."""


_IN_ITS_WORDS = ((NotThere, 404, ""), (ConfigError, 422, ""), (DataError, 500, "the run cannot answer this: "))
"""What clients send is never a DataError: that is the run's tables, its bank, or what a model made."""


class ErrorAnswer(BaseModel):
    """What every failed request is answered with."""

    error: str
    request_id: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": about}
    for status, about in (
        (400, "The body is no JSON"),
        (401, "The token is missing or wrong"),
        (404, "The run has no such voxel or subject"),
        (413, "The body is too large"),
        (415, "The body is of a type that is not read"),
        (421, "The service is not known by the request's Host"),
        (422, "A value cannot be used; the message names it"),
        (500, "A fault of the service or its run; the logs name the cause beside the request id"),
        (503, "Busy, or a replica was lost; Retry-After says when to try again. In plain text if Serve's proxy is full"),
        (504, "The answer took too long"),
    )
}
"""For `FastAPI(responses=...)`: how failures look in the OpenAPI description."""


@dataclass(frozen=True)
class Failure:
    """Status, sentence and seconds after which it may be tried again (None where trying again is no help)."""

    status: int
    error: str
    retry_after: int | None = None


def unwrapped(error: BaseException) -> BaseException:
    """The exception that a deployment raised, out of what Ray put around it."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def failure(error: BaseException, secrets: Iterable[str] = ()) -> Failure:
    """What a client is told of an exception; `secrets` are places on the server that no sentence may name."""
    cause = unwrapped(error)
    for kind, status, before in _IN_ITS_WORDS:
        if isinstance(cause, kind):
            return Failure(status, before + without_places(str(cause), secrets))
    if isinstance(cause, BackPressureError):
        seconds = FULL_SECONDS if cause.retry_after_s is None else max(1, math.ceil(cause.retry_after_s))
        return Failure(503, "the service is busy: all queues are full; try again later", seconds)
    if isinstance(cause, TimeoutError):  # Ray's GetTimeoutError is one
        return Failure(504, "the answer took too long; ask for fewer items at once, or try again later")
    if isinstance(cause, _LOST):
        return Failure(503, "a part of the service was lost while it worked on this request; try again", LOST_SECONDS)
    return Failure(500, "the service failed on this request; its logs name the cause beside the request id")


def without_places(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the named places, absolute paths and URIs: messages of the library name files for its own user."""
    known = {str(place).rstrip("/") for place in (*secrets, Path.cwd(), Path.home(), tempfile.gettempdir())} - {""}
    for place in sorted(known, key=len, reverse=True):
        # with what follows of the path, so that nothing of its inside is left
        text = re.sub(re.escape(place) + r"(?=$|[/\s'\":,;.)])[^\s'\",;:)]*", _SAYS_NO_PLACE, text)
    return _PATH.sub(_SAYS_NO_PLACE, text)


def request_id(request: Request) -> str:
    """The request's id, as in the logs; `protection.Numbered` set it."""
    number: str = request.scope["state"]["request_id"]
    return number


def error_answer(request: Request, failed: Failure) -> JSONResponse:
    """The answer of a failed request."""
    headers = {} if failed.retry_after is None else {"Retry-After": str(failed.retry_after)}
    content = {"error": failed.error, "request_id": request_id(request)}
    return JSONResponse(content, status_code=failed.status, headers=headers)


def exception_answer(request: Request, error: Exception, secrets: Iterable[str] = ()) -> JSONResponse:
    """The answer to an exception that no endpoint caught; the log gets all of it, with its trace where the fault is ours."""
    failed = failure(error, secrets)
    if failed.status == 500:
        cause = unwrapped(error)
        remote = str(error) if isinstance(error, RayTaskError) else ""  # with its trace; not every one has `traceback_str`
        LOGGER.error("request %s failed: %s %s", request_id(request), type(cause).__name__, remote, exc_info=cause)
    elif not isinstance(unwrapped(error), (BackPressureError, NotThere)):
        LOGGER.warning("request %s was answered %s: %r", request_id(request), failed.status, str(unwrapped(error)))
    return error_answer(request, failed)


def answer_in_words(app: FastAPI) -> None:
    """Give what FastAPI itself refuses (unknown paths, bodies that do not fit) the same form as every other failure."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        answer = error_answer(request, Failure(error.status_code, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    async def unfit(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_answer(request, Failure(422, _in_words(error)))

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, unfit)


def _in_words(error: RequestValidationError) -> str:
    """The first faults, each with its place; what was sent is not repeated: it may be huge, or no text."""
    faults = error.errors()
    told = []
    for fault in faults[:5]:
        place = ".".join(_short(str(part)) for part in fault["loc"] if part != "body") or "body"
        said = str(fault["msg"]).removeprefix("Value error, ")  # pydantic's own words before those of a validator
        told.append(f"{place}: {_short(said, 300)}")
    rest = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
    return "; ".join(told) + rest


def _short(text: str, length: int = 60) -> str:
    printable = text.encode("utf-8", "replace").decode()
    return printable if len(printable) <= length else f"{printable[: length - 1]}…"
