"""What stands between the network and the endpoints: request ids, log lines, the token, origins, sizes and types of bodies.

Three layers around the application, outermost first: `Numbered` (id, log line), CORS where origins are allowed, `Gate` (host,
token, type, size, time, exceptions). Nothing here reads a body whole: a body is counted while it streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import os
import re
import time
import uuid
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import quote, urlsplit

from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scuba_ray.config.serve import ServeConfig
from scuba_ray.errors import ConfigError
from scuba_ray.serve.failures import LOGGER, Failure, answer_in_words, error_answer, exception_answer, request_id

OPEN = frozenset({"/healthz"})
"""Paths answered without a token: load balancers and Kubernetes ask here."""
VALUES = 2_000_000
"""Values a JSON body may hold: 256 vectors of 1,024 numbers seven times over. `[[],[],...]` of 32 MiB would become 700 MB."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def protect(app: FastAPI, settings: ServeConfig) -> None:
    """Put the layers around `app`, before its first request. Picklable: of the token only a digest is kept.

    Call it where the token's variable is set: `app_builder` runs there. Replicas elsewhere then ask for the token too.

    Raises
    ------
    ConfigError
        If the token's variable is set to something that cannot be sent in a header, or to nothing.
    """
    secrets = tuple(place for place in (settings.run, settings.root) if place)
    answer_in_words(app)
    app.add_middleware(
        Gate,
        token_digest=_token_digest(settings.token_variable),
        body_bytes=int(settings.limits.body_mib * 2**20),
        seconds=settings.limits.seconds,
        secrets=secrets,
        hosts=settings.hosts,
    )
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Numbered)


def _token_digest(variable: str) -> bytes | None:
    token = os.environ.get(variable)
    if token is None:
        return None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{variable} is set, but not to a token: wanted printable ASCII without spaces (`openssl rand -hex 32`), or the "
            "variable unset for a service that answers everyone"
        )
    return hashlib.sha256(token.encode()).digest()


class Numbered:
    """Gives each request an id, and the log a line of it: id, method, path, status, seconds. Never a query, body or header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (the ASGI interface)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no WebSocket here, so none goes past the token
            await send({"type": "websocket.close", "code": 1008})
            return
        sent = Headers(scope=scope).getlist("x-request-id")
        number = sent[0] if len(sent) == 1 and _ID.fullmatch(sent[0]) else uuid.uuid4().hex
        scope["state"] = {**scope.get("state", {}), "request_id": number}
        began, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
                if not _behind_proxy():
                    headers["X-Request-ID"] = number
            await send(message)

        try:
            await self.app(scope, receive, told)
        finally:
            method, path = (quote(scope[name][:200], errors="replace") for name in ("method", "path"))
            seconds = time.perf_counter() - began
            LOGGER.info("request %s %s %s %s %.3f s", number, method, path, status or "unanswered", seconds)


def _behind_proxy() -> bool:
    """Whether this is a replica: Serve's proxy adds X-Request-ID to answers by itself, and twice would be wrong."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True


class Gate:
    """Lets requests in that show the token, are of a type that is read, are small enough and done in time."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token_digest: bytes | None,
        body_bytes: int,
        seconds: float,
        secrets: Sequence[str],
        hosts: Sequence[str] | None = None,
    ) -> None:
        self.app, self.hosts = app, hosts
        self.token_digest, self.body_bytes, self.seconds, self.secrets = token_digest, body_bytes, seconds, secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (the ASGI interface)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refused = self._misled(request) or self._unknown(request) or self._unfit(request)
        if refused is not None:
            await refused(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            async with asyncio.timeout(self.seconds) as timer:
                await self.app(scope, self._counted(receive), noted)
        except Exception as error:
            # the one place where anything may arrive: what endpoints raise becomes an answer, and is logged there
            if started:
                LOGGER.error("request %s broke off in mid-answer: %s", request_id(request), type(error).__name__)
                raise
            fault = TimeoutError() if timer.expired() else error
            await exception_answer(request, fault, self.secrets)(scope, receive, send)

    def _misled(self, request: Request) -> Response | None:
        """421 where the service is called by a name that is not its own: a browser that a page's name server sent here."""
        if self.hosts is None or _is_own(request.headers.get("host", ""), self.hosts):
            return None
        return error_answer(request, Failure(421, "the service is not known by this Host; its setting `hosts` names others"))

    def _unknown(self, request: Request) -> Response | None:
        path = _path(request.scope)
        if self.token_digest is None or path in OPEN or _shows(request.headers, self.token_digest):
            return None
        return _unauthorised(request, path)

    def _unfit(self, request: Request) -> Response | None:
        """What is wrong with a body by its headers alone."""
        if request.method not in _WITH_BODY:
            return None
        lengths, encodings, types = (
            request.headers.getlist(name) for name in ("content-length", "content-encoding", "content-type")
        )
        failed = None
        if any(not re.fullmatch(r"[0-9]{1,18}", length) for length in lengths):
            failed = Failure(400, "Content-Length is no number of bytes")
        elif any(int(length) > self.body_bytes for length in lengths):
            failed = self._too_large()
        elif any(encoding.strip().lower() != "identity" for encoding in encodings):
            failed = Failure(415, "compressed bodies are not read; send the JSON as it is")
        elif len(types) != 1 or not _is_json(types[0]):
            failed = Failure(415, "wanted a body of Content-Type application/json, in UTF-8")
        return None if failed is None else error_answer(request, failed)

    def _too_large(self) -> Failure:
        limit = f"{self.body_bytes / 2**20:g} MiB"
        return Failure(413, f"the body has more than {limit} (limits.body_mib); send fewer items at once")

    def _counted(self, receive: Receive) -> Receive:
        """`receive` that ends a body above the limits, whatever its Content-Length said, or if it said nothing."""
        size = values = 0

        async def counted() -> Message:
            nonlocal size, values
            message = await receive()
            if message["type"] == "http.request":
                part = message.get("body", b"")
                size += len(part)
                values += sum(part.count(mark) for mark in (b",", b"[", b"{"))
                if size > self.body_bytes:
                    raise HTTPException(413, self._too_large().error)
                if values > VALUES:
                    raise HTTPException(413, f"the body has more than {VALUES:,} values; send fewer items at once")
            return message

        return counted


def _path(scope: Scope) -> str:
    """The path below the application's route_prefix, as routes see it."""
    root, path = scope.get("root_path", "").rstrip("/"), str(scope["path"])
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _is_own(host: str, names: Sequence[str]) -> bool:
    """Whether a Host is an address (no name server can give one to somebody else), localhost, or one of the names."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name == "localhost" or name in names


def _shows(headers: Headers, digest: bytes) -> bool:
    """Whether the request shows the token. Digests are compared, in constant time: neither length nor prefix can be told."""
    sent = headers.getlist("authorization")
    scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    found = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
    return hmac.compare_digest(found, digest) and scheme.lower() == "bearer"


def _unauthorised(request: Request, path: str) -> Response:
    """401; at `/` as a page that asks for the token, since a browser cannot be told to send one with its first request."""
    headers = {"WWW-Authenticate": 'Bearer realm="scuba_ray"'}
    if path in {"", "/"} and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse((files("scuba_ray.serve") / "sign_in.html").read_text(encoding="utf-8"), 401, headers)
    answer = error_answer(request, Failure(401, "wanted the service's token: Authorization: Bearer TOKEN"))
    answer.headers.update(headers)
    return answer


def _is_json(content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return kind == "application/json" and all(part in {"", "charset=utf-8", 'charset="utf-8"'} for part in parameters)
