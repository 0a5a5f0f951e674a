"""GET /: the run's report, told that a service gives it; its query box then shows, and its policy lets it ask this service."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from html import escape
from urllib.parse import quote

import pyarrow.fs as pafs
from starlette.requests import Request
from starlette.responses import Response

from scuba_ray.serve.failures import NotThere
from scuba_ray.tables import files

REPORT = "report/index.html"
_PAGE, _POLICY = b'<html lang="en">', b"default-src 'none'; "


def page(request: Request, run: str) -> Response:
    """Return the report of the run at `run`, or 304 if the browser has it. Reads files: call it in a thread.

    Raises
    ------
    NotThere
        If the run has no report.
    """
    filesystem, place = files.filesystem(run)
    about = filesystem.get_file_info(f"{place}/{REPORT}")
    if about.type != pafs.FileType.File:
        raise NotThere("this run has no report yet: `scuba report RUN` writes it")
    whole, tag = _served(run, _endpoint(str(request.scope["path"])), (about.size, about.mtime_ns))
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(whole, media_type="text/html; charset=utf-8", headers=headers)


def _endpoint(path: str) -> str:
    """Where the query box asks, relative to the page: below any route_prefix, and behind a proxy that has one more."""
    last = path.rpartition("/")[2]
    return f"{quote(last)}/v1/query" if last else "v1/query"


@lru_cache(maxsize=2)
def _served(run: str, endpoint: str, written: tuple[int, int]) -> tuple[bytes, str]:
    """The page with its marker, and its tag; read again only when it was `written` again (size, time)."""
    report = files.read(run, REPORT)
    marked = report.replace(_PAGE, f'<html lang="en" data-service="{escape(endpoint)}">'.encode(), 1)
    served = marked.replace(_POLICY, _POLICY + b"connect-src 'self'; ", 1)
    return served, f'"{sha256(served).hexdigest()[:32]}"'
